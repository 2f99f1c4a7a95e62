//! The kernel's order of a group whose note is lost: measured, with one connection to each position.
//!
//! The slots belong to programs that run, which accept at once: whose process has the connection then
//! tells the slot.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::core::ids::SlotId;
use crate::os::{diag, proc};
use crate::supervisor::sockets::reuseport_group::{self, Group};

/// Looks for one connection, a millisecond apart.
const N_LOOKS: u32 = 300;

/// A slot, and a process that has it.
type Holder = (SlotId, i32);

/// Sets the order of a group right, as far as it can be seen; a position that cannot be found keeps what
/// was assumed.
pub(super) async fn find(group: &Rc<RefCell<Group>>, holders: &[Holder]) {
    let assumed = group.borrow().order().to_vec();
    // With fewer there is one order alone.
    let (Some(first), true) = (assumed.first(), assumed.len() > 1) else { return };
    if let Err(error) = group.borrow_mut().steer(&[(*first, 1)]) {
        return tracing::error!(%error, "looking for the order of the slots");
    }
    let mut seen = Vec::new();
    for at in &assumed {
        let probed = reuseport_group::probe_connect(group, *at);
        let stream = tokio::time::timeout(Duration::from_secs(1), probed).await;
        seen.push(match stream {
            Ok(Ok(stream)) => arrived(group, &stream, holders).await,
            Ok(Err(_)) | Err(_) => None,
        });
    }
    let mut rest: Vec<SlotId> =
        assumed.iter().filter(|id| !seen.contains(&Some(**id))).copied().collect();
    rest.reverse();
    let order: Vec<SlotId> = seen.into_iter().filter_map(|id| id.or_else(|| rest.pop())).collect();
    let is_found = order.len() == assumed.len() && assumed.iter().all(|id| order.contains(id));
    if !is_found {
        tracing::error!(?assumed, ?order, "the order of the slots was not found");
    }
    group.borrow_mut().set_order(if is_found { order } else { assumed });
}

/// The slot that a connection of our own has arrived in.
async fn arrived(
    group: &Rc<RefCell<Group>>,
    stream: &TcpStream,
    holders: &[Holder],
) -> Option<SlotId> {
    let (ours, theirs) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
    for _ in 0..N_LOOKS {
        if let Some(inode) = accepted(ours, theirs) {
            let has = |(_, pid): &&Holder| {
                proc::tree(*pid).into_iter().any(|pid| proc::socket_inodes(pid).contains(&inode))
            };
            if let Some((slot, _)) = holders.iter().find(has) {
                return Some(*slot);
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A program that does not accept has it in its queue.
    let group = group.borrow();
    let is_queued = |id: &SlotId| group.state(*id).is_ok_and(|state| state.n_queued > 0);
    let queued: Vec<SlotId> = group.ids().into_iter().filter(is_queued).collect();
    queued.first().copied().filter(|_| queued.len() == 1)
}

/// The other end of a connection, once a process has it.
fn accepted(ours: SocketAddr, theirs: SocketAddr) -> Option<u64> {
    let (local_port, remote_port) = (Some(theirs.port()), Some(ours.port()));
    let states = [diag::ESTABLISHED, diag::CLOSE_WAIT];
    let rows = diag::rows(diag::Wanted { states: &states, local_port, remote_port });
    rows.into_iter().map(|row| row.inode).find(|inode| *inode != 0)
}
