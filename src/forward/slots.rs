//! The connections of one worker, by number. A number is not used again in the round in which its
//! connection ended: events for that one may still be in hand.

use super::connection::Connection;

/// Numbered connections.
#[derive(Debug, Default)]
pub struct Slots {
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    left: Vec<usize>,
    n_open: usize,
}

impl Slots {
    /// Takes a connection in.
    pub fn insert(&mut self, connection: Connection) -> usize {
        self.n_open += 1;
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index)
        {
            *slot = Some(connection);
            return index;
        }
        self.slots.push(Some(connection));
        self.slots.len() - 1
    }

    /// The connection of a number.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Connection> {
        self.slots.get_mut(index)?.as_mut()
    }

    /// Closes a connection. False when there is none.
    pub fn remove(&mut self, index: usize) -> bool {
        let was_there = self.slots.get_mut(index).is_some_and(|slot| slot.take().is_some());
        if was_there {
            self.left.push(index);
            self.n_open -= 1;
        }
        was_there
    }

    /// Every event of the round was looked at.
    pub fn end_round(&mut self) {
        self.free.append(&mut self.left);
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.n_open == 0
    }
}
