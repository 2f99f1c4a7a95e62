//! What services write while there is no supervisor that reads it: moved from each pipe to its spool, which
//! the next supervisor reads first. No program waits for one that is away.
//!
//! The keeper moves bytes within the kernel and looks at none. From a supervisor's greeting on the pipes are
//! the supervisor's: two that move at once would write over each other.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::core::ordered::Few;
use crate::keeper::protocol::{OUTPUT, SPOOL};
use crate::os::spool;

/// What is moved in one go.
const PIECE_BYTES: usize = 256 * 1024;

/// What a spool may hold that no supervisor has read: a program that writes more waits.
const SPOOL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Every pipe whose spool has room.
pub fn pipes(kept: &Few<String, OwnedFd>) -> impl Iterator<Item = BorrowedFd<'_>> {
    both(kept).filter(|(_, spool)| has_room(*spool)).map(|(pipe, _)| pipe)
}

/// Moves what is there, a piece of each.
pub fn drain(kept: &Few<String, OwnedFd>) {
    for (pipe, spool) in both(kept).filter(|(_, spool)| has_room(*spool)) {
        match spool::fill(spool, pipe, PIECE_BYTES) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => tracing::error!(%error, "keeping a service's output"),
        }
    }
}

fn both(kept: &Few<String, OwnedFd>) -> impl Iterator<Item = (BorrowedFd<'_>, BorrowedFd<'_>)> {
    kept.iter().filter_map(|(name, pipe)| {
        let spool = kept.get(&format!("{SPOOL}{}", name.strip_prefix(OUTPUT)?))?;
        Some((pipe.as_fd(), spool.as_fd()))
    })
}

fn has_room(spool: BorrowedFd<'_>) -> bool {
    spool::unread_bytes(spool).is_ok_and(|n_bytes| n_bytes < SPOOL_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::os::spool::Spool;

    #[test]
    fn a_program_writes_on_while_no_supervisor_reads_up_to_the_bound() {
        let (read, write) = io::pipe().unwrap();
        let mut spool = Spool::new().unwrap();
        let mut kept = Few::default();
        kept.insert("log/web/1/0".to_owned(), OwnedFd::from(read));
        kept.insert("spool/web/1/0".to_owned(), spool.as_fd().try_clone_to_owned().unwrap());
        // One whose spool is not there is left to its pipe.
        kept.insert("log/web/2/0".to_owned(), OwnedFd::from(io::pipe().unwrap().0));
        let n_chunks = SPOOL_BYTES_MAX / 32_768;
        for n in 0..n_chunks {
            (&write).write_all(&vec![u8::try_from(n % 251).unwrap(); 32_768]).unwrap();
            let pipes: Vec<_> = pipes(&kept).collect();
            let mut fds: Vec<_> =
                pipes.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
            assert_eq!(poll(&mut fds, None).unwrap(), 1);
            drain(&kept);
        }
        assert_eq!(pipes(&kept).count(), 0, "it is full: nothing wakes the keeper");
        (&write).write_all(b"rest").unwrap();
        drain(&kept);
        // The next supervisor has all of it, in order.
        for n in 0..n_chunks {
            let bytes = spool.unread(32_768).unwrap();
            assert_eq!((bytes[0], bytes[32_767]), ((n % 251) as u8, (n % 251) as u8));
            spool.advance(bytes.len()).unwrap();
        }
        drain(&kept);
        assert_eq!(spool.unread(100).unwrap(), b"rest");
    }
}
