//! What a process that lets kept connections follow is asked for, and what it has done: a few numbers in
//! anonymous memory that both sides have. It outlives either of them as long as one has the descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{pread, pwrite};

/// The shared memory.
#[derive(Debug)]
pub struct Board(OwnedFd);

/// Which connections are to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All that this process has, and that it gets.
    All,
    /// Those that it has at this moment.
    Present,
}

/// Processes whose connections are to follow. The number says which orders are the newer ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orders {
    /// 0 while there are none.
    pub number: u32,
    /// Processes, by their pids.
    pub of: Vec<(i32, Extent)>,
}

/// What has become of connections so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// A request was passed on and the connection ended.
    pub n_followed: u32,
    /// Ended while it was quiet.
    pub n_closed: u32,
    /// Open, and followed at the next request.
    pub n_waiting: u32,
    /// Open: the program reads in a blocking way.
    pub n_blocking: u32,
    /// Open: no HTTP/1.
    pub n_foreign: u32,
    /// Open: nobody may look into the program (`errno`).
    pub n_denied: u32,
    /// Why not: an `errno`.
    pub denied: u32,
}

const TALLY_AT: u64 = 8192;
const N_OF_MAX: usize = 512;

impl Board {
    /// One without orders.
    ///
    /// # Errors
    /// `memfd_create(2)`'s.
    pub fn new() -> io::Result<Self> {
        Ok(Self(memfd_create("halley-follow", MemfdFlags::CLOEXEC)?))
    }

    /// One that another process has made.
    #[must_use]
    pub fn adopt(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Gives orders. The number comes last: who sees it sees the rest.
    ///
    /// # Errors
    /// `write(2)`'s; when there are too many processes.
    pub fn order(&self, orders: &Orders) -> io::Result<()> {
        if orders.of.len() > N_OF_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let n = u32::try_from(orders.of.len()).unwrap_or(0);
        let of = orders
            .of
            .iter()
            .flat_map(|(pid, extent)| [pid.unsigned_abs(), u32::from(*extent == Extent::Present)]);
        let words: Vec<u32> = std::iter::once(n).chain(of).collect();
        pwrite(&self.0, &bytes(&words), 4)?;
        pwrite(&self.0, &orders.number.to_le_bytes(), 0)?;
        Ok(())
    }

    /// The number of the newest orders.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.words(0, 1).first().copied().unwrap_or(0)
    }

    /// The newest orders.
    #[must_use]
    pub fn orders(&self) -> Orders {
        let words = self.words(0, 2 + 2 * N_OF_MAX);
        let n = usize::try_from(words.get(1).copied().unwrap_or(0)).unwrap_or(0);
        let pairs = words.get(2..).unwrap_or_default().chunks_exact(2).take(n);
        let of = pairs.map(|pair| {
            let extent = if pair[1] == 0 { Extent::All } else { Extent::Present };
            (i32::try_from(pair[0]).unwrap_or(0), extent)
        });
        Orders { number: words.first().copied().unwrap_or(0), of: of.collect() }
    }

    /// Writes down what has become of connections.
    pub fn put(&self, tally: &Tally) {
        let Tally { n_followed, n_closed, n_waiting, n_blocking, n_foreign, n_denied, denied } =
            *tally;
        let words = [n_followed, n_closed, n_waiting, n_blocking, n_foreign, n_denied, denied];
        // Memory is there, or the process is not.
        let _ = pwrite(&self.0, &bytes(&words), TALLY_AT);
    }

    /// What was written down last.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let words = self.words(TALLY_AT, 7);
        let at = |index: usize| words.get(index).copied().unwrap_or(0);
        Tally {
            n_followed: at(0),
            n_closed: at(1),
            n_waiting: at(2),
            n_blocking: at(3),
            n_foreign: at(4),
            n_denied: at(5),
            denied: at(6),
        }
    }

    fn words(&self, at: u64, n: usize) -> Vec<u32> {
        let mut room = vec![0; n * 4];
        let n = pread(&self.0, &mut room, at).unwrap_or(0);
        let words = room.get(..n).unwrap_or_default().chunks_exact(4);
        words.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    }
}

impl AsFd for Board {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_what_was_done_are_read_on_the_other_side() {
        let board = Board::new().unwrap();
        assert_eq!(board.orders(), Orders::default());
        let orders = Orders { number: 2, of: vec![(7, Extent::All), (9, Extent::Present)] };
        board.order(&orders).unwrap();
        let other = Board::adopt(board.as_fd().try_clone_to_owned().unwrap());
        assert_eq!((other.number(), other.orders()), (2, orders));
        let tally = Tally { n_followed: 14, n_blocking: 2, denied: 1, ..Tally::default() };
        other.put(&tally);
        assert_eq!(board.tally(), tally);
    }
}
