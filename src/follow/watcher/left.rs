//! What others have left: connections that the program has closed, and requests of a holder that is gone.

use super::{Gone, Watcher};
use crate::follow::carry;
use crate::follow::message::{self, Message};
use crate::follow::watched::{Carry, Watched};
use crate::os::connection;

impl Watcher {
    /// What a program has closed is open because of the duplicates: it is passed on, or ended.
    pub(super) fn orphans(&mut self) -> Result<(), Gone> {
        let mut index = 0;
        while let Some(watched) = self.watched.get_mut(index) {
            let is_whole = watched.carried.is_some() || watched.place.has(watched.inode);
            let program = self.programs.get(watched.program);
            if is_whole || program.is_some_and(|program| program.has(watched.inode)) {
                index += 1;
                continue;
            }
            let n_unread = connection::n_unread(&watched.fd).unwrap_or(0);
            let counts = connection::counts(&watched.fd).unwrap_or_default();
            let is_marked = watched.is_marked && watched.connection.wants_queue();
            if n_unread > 0 && is_marked && watched.is_held {
                watched.carried = Some(Carry { request: Vec::new(), head: None, before: counts });
                let pass = Message::Pass(watched.id);
                message::send(&self.holder, pass, None).map_err(|_| Gone)?;
                index += 1;
                continue;
            }
            self.let_go(index)?;
        }
        Ok(())
    }

    /// The holder is gone with requests that it was passing on: none of them may hang.
    pub(super) fn carry_on(self) {
        let mut carrying = Vec::new();
        for watched in self.watched {
            let Some(carry) = watched.carried else { continue };
            let Watched { fd, .. } = watched;
            let (unread, counts) = (connection::n_unread(&fd), connection::counts(&fd));
            let (Ok(unread), Ok(counts)) = (unread, counts) else { continue };
            let is_untouched = counts.received == carry.before.received
                && unread == carry.request.len() as u64
                && carry.head.is_some();
            if is_untouched {
                // It had not taken it yet: the program gets it.
                let _ = connection::lower(&fd);
            } else if counts.written == carry.before.written
                && let Some(head) = carry.head
            {
                let work = move || carry::pass_on(&fd, None, &carry.request, head.is_for_head);
                carrying.push(std::thread::spawn(work));
            } else {
                connection::end(&fd);
                let _ = connection::lower(&fd);
            }
        }
        for one in carrying {
            drop(one.join());
        }
    }
}
