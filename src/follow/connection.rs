//! One kept connection: what is known of it, and what is done about it. Pure: looks in, deeds out.
//!
//! A request may be taken only where a request begins, and only when the program has answered all before
//! it. Both are known by counting: a whole request was held back, seen, and given back; the program read
//! all of it and nothing else, and wrote after that. Where the next one begins follows from the kernel's count
//! of bytes and the length in the head, so a body that looks like a request is none. Whatever cannot be
//! counted, or was not seen, makes all uncertain again: then the next request is given back too.
//! An acknowledgement is no answer: the kernel of a client sends one for other reasons.

use super::head::{Head, Queue};

/// After this many exchanges in a row that are no HTTP/1, or that the program read in spite of the mark, a
/// connection is left alone.
const N_MISSES_MAX: u8 = 3;
const N_READS_MAX: u8 = 16;

/// What is done about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Nothing.
    Wait,
    /// The mark goes up: what comes from here on is held back.
    Raise,
    /// The mark goes down: the program gets what came.
    Lower,
    /// The request in the queue, so long, is passed on.
    Take(Head),
}

/// Why a connection stays where it is, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// What comes is no HTTP/1.
    Foreign,
    /// It became a tunnel.
    Tunnel,
    /// Its client does not wait for answers.
    Pipelined,
    /// The program reads whatever came without being woken.
    ReadAlone,
}

/// A connection at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Bytes that have come.
    pub received: u64,
    /// Those of them that nobody has read.
    pub unread: u64,
    /// Bytes that the program has written.
    pub written: u64,
    /// Something came after the program wrote last, certainly: it is at work.
    pub is_asked: bool,
    /// What the unread bytes begin with.
    pub queue: Option<Queue>,
    /// Requests are taken, not only looked at.
    pub may_take: bool,
}

/// What is known of a connection.
#[derive(Debug)]
pub struct Connection {
    stage: Stage,
    n_misses: u8,
    n_reads: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is known, and the mark is down.
    Loose,
    /// The mark is up, and nothing was unread at this place.
    Marked { at: u64, known: bool },
    /// The same; since the look before this head waits there.
    Held { at: u64, head: Head },
    /// A request was given back that ends at this place; so much was written before.
    Given { end: u64, written: u64 },
    /// It is left alone.
    Left(Stays),
}

impl Default for Connection {
    fn default() -> Self {
        Self { stage: Stage::Loose, n_misses: 0, n_reads: 0 }
    }
}

impl Connection {
    /// Why it stays, when it does.
    #[must_use]
    pub fn stays(&self) -> Option<Stays> {
        match self.stage {
            Stage::Left(stays) => Some(stays),
            _ => None,
        }
    }

    /// Whether what waits in its queue decides.
    #[must_use]
    pub fn wants_queue(&self) -> bool {
        matches!(self.stage, Stage::Marked { .. } | Stage::Held { .. })
    }

    /// Whether a request was given back a moment ago: the next one may come at once.
    #[must_use]
    pub fn is_given(&self) -> bool {
        matches!(self.stage, Stage::Given { .. })
    }

    /// Its mark went down for another reason.
    pub fn let_go(&mut self) {
        if self.stays().is_none() {
            self.stage = Stage::Loose;
        }
    }

    /// What comes of a look.
    pub fn look(&mut self, look: Look) -> Deed {
        let read = look.received.saturating_sub(look.unread);
        match self.stage {
            Stage::Left(_) => Deed::Wait,
            Stage::Loose => self.loose(look),
            Stage::Marked { at, .. } | Stage::Held { at, .. } if read != at => {
                self.n_reads += 1;
                match self.n_reads >= N_READS_MAX {
                    true => self.leave(Stays::ReadAlone),
                    false => self.lower(),
                }
            }
            Stage::Marked { .. } | Stage::Held { .. } if look.unread == 0 => Deed::Wait,
            Stage::Marked { at, known } => self.came(look, at, known),
            Stage::Held { at, head } => match look.queue {
                Some(Queue::Head(now)) if now == head && look.unread == head.length => {
                    match look.may_take {
                        true => Deed::Take(head),
                        false => self.give_back(look, at, head),
                    }
                }
                _ => self.came(look, at, false),
            },
            Stage::Given { end, written } => {
                if read > end {
                    return self.again(look);
                }
                if look.received == end && look.unread == 0 && look.written > written {
                    self.stage = Stage::Marked { at: end, known: true };
                    return Deed::Raise;
                }
                Deed::Wait
            }
        }
    }

    fn loose(&mut self, look: Look) -> Deed {
        if look.unread > 0 || look.is_asked {
            return Deed::Wait;
        }
        self.stage = Stage::Marked { at: look.received, known: false };
        Deed::Raise
    }

    /// The next request came unseen.
    fn again(&mut self, look: Look) -> Deed {
        self.stage = Stage::Loose;
        self.loose(look)
    }

    /// Something came while the mark was up.
    fn came(&mut self, look: Look, at: u64, known: bool) -> Deed {
        let Some(queue) = look.queue else { return Deed::Wait };
        self.n_reads = 0;
        match queue {
            Queue::Head(head) => {
                self.n_misses = 0;
                if look.unread > head.whole() {
                    return self.leave(Stays::Pipelined);
                }
                if known && look.may_take && head.is_safe && head.body == 0 {
                    self.stage = Stage::Held { at, head };
                    return Deed::Wait;
                }
                self.give_back(look, at, head)
            }
            Queue::Tunnel => self.leave(Stays::Tunnel),
            Queue::Part | Queue::Unclear => self.lower(),
            Queue::Foreign => {
                self.n_misses += 1;
                match self.n_misses >= N_MISSES_MAX {
                    true => self.leave(Stays::Foreign),
                    false => self.lower(),
                }
            }
        }
    }

    fn give_back(&mut self, look: Look, at: u64, head: Head) -> Deed {
        let end = at.saturating_add(head.whole());
        self.stage = Stage::Given { end, written: look.written };
        Deed::Lower
    }

    fn lower(&mut self) -> Deed {
        self.stage = Stage::Loose;
        Deed::Lower
    }

    fn leave(&mut self, stays: Stays) -> Deed {
        self.stage = Stage::Left(stays);
        Deed::Lower
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::head;

    const GET: &str = "GET / HTTP/1.1\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n";

    /// Bytes come, are read, are written; the connection is looked at.
    #[derive(Default)]
    struct Bench {
        connection: Connection,
        received: u64,
        written: u64,
        queue: Vec<u8>,
        is_asked: bool,
        may_take: bool,
    }

    impl Bench {
        fn new() -> Self {
            Self { received: 100, written: 100, may_take: true, ..Self::default() }
        }

        fn comes(&mut self, text: &str) -> &mut Self {
            self.received += text.len() as u64;
            self.queue.extend(text.as_bytes());
            self
        }

        fn is_read(&mut self) -> &mut Self {
            self.queue.clear();
            self
        }

        fn answers(&mut self) -> &mut Self {
            self.written += 50;
            self
        }

        #[track_caller]
        fn does(&mut self, expected: Deed) -> &mut Self {
            let queue = (!self.queue.is_empty()).then(|| head::read(&self.queue));
            let look = Look {
                received: self.received,
                unread: self.queue.len() as u64,
                written: self.written,
                is_asked: self.is_asked,
                queue,
                may_take: self.may_take,
            };
            assert_eq!(self.connection.look(look), expected, "{:?}", self.connection);
            self
        }

        /// One whole cycle that was seen.
        #[track_caller]
        fn cycle(&mut self, request: &str) -> &mut Self {
            self.does(Deed::Raise).comes(request).does(Deed::Lower);
            self.is_read().does(Deed::Wait).answers().does(Deed::Raise)
        }
    }

    fn take() -> Deed {
        match head::read(GET.as_bytes()) {
            Queue::Head(head) => Deed::Take(head),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_second_request_is_taken_once_it_stays_where_it_is() {
        Bench::new().cycle(GET).comes(GET).does(Deed::Wait).does(take());
    }

    #[test]
    fn the_first_one_is_not_even_on_a_new_connection() {
        Bench::new().does(Deed::Raise).comes(GET).does(Deed::Lower);
        // A health check, which asks this very process.
        let mut fresh = Bench { received: 0, written: 0, ..Bench::new() };
        fresh.does(Deed::Raise).comes(GET).does(Deed::Lower);
    }

    #[test]
    fn before_the_flip_requests_are_only_looked_at() {
        let mut bench = Bench { may_take: false, ..Bench::new() };
        bench.cycle(GET).comes(GET).does(Deed::Lower).is_read().answers().does(Deed::Raise);
        bench.may_take = true;
        bench.comes(GET).does(Deed::Wait).does(take());
    }

    #[test]
    fn a_program_that_has_not_answered_is_not_passed_over() {
        let mut bench = Bench::new();
        bench.does(Deed::Raise).comes(GET).does(Deed::Lower).is_read();
        bench.does(Deed::Wait).does(Deed::Wait);
        // The next one comes all the same: where it is read, all is uncertain again.
        bench.comes(GET).does(Deed::Wait).is_read();
        bench.is_asked = true;
        bench.does(Deed::Wait);
        bench.is_asked = false;
        bench.answers().cycle(GET).comes(GET).does(Deed::Wait).does(take());
    }

    #[test]
    fn one_that_is_at_work_when_the_watch_begins_is_waited_for() {
        let mut bench = Bench { is_asked: true, ..Bench::new() };
        bench.does(Deed::Wait);
    }

    #[test]
    fn a_body_that_looks_like_a_request_is_none() {
        let body = "GET / HTTP/1.1\r\n\r\n";
        let post = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", 2 * body.len());
        let mut bench = Bench::new();
        // The program answers before the body has come.
        bench.cycle(GET).comes(&post).does(Deed::Lower).is_read().answers().does(Deed::Wait);
        bench.comes(body).does(Deed::Wait).is_read().answers().does(Deed::Wait);
        bench.comes(body).does(Deed::Wait).is_read().does(Deed::Raise);
        bench.comes(GET).does(Deed::Wait).does(take());
    }

    #[test]
    fn a_request_with_a_body_goes_back_and_the_next_one_is_taken() {
        let mut bench = Bench::new();
        bench.cycle(&format!("{POST}0123456789")).comes(GET).does(Deed::Wait).does(take());
        let mut bench = Bench::new();
        bench.cycle(GET).comes(POST).does(Deed::Lower).is_read().does(Deed::Wait);
        bench.comes("0123456789").is_read().answers().does(Deed::Raise);
        bench.comes(GET).does(Deed::Wait).does(take());
    }

    #[test]
    fn what_is_not_counted_makes_all_uncertain() {
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for unclear in [chunked, "GET / HT"] {
            let mut bench = Bench::new();
            bench.cycle(GET).comes(unclear).does(Deed::Lower).does(Deed::Wait).is_read().answers();
            bench.cycle(GET).comes(GET).does(Deed::Wait).does(take());
        }
        // One came and went between two looks.
        let mut bench = Bench::new();
        bench.does(Deed::Raise).comes(GET).does(Deed::Lower).is_read().answers();
        bench.comes(GET).is_read().answers().cycle(GET);
    }

    #[test]
    fn what_the_program_read_in_spite_of_the_mark_puts_it_down() {
        let mut bench = Bench::new();
        bench.cycle(GET).comes(GET).does(Deed::Wait).is_read().answers().does(Deed::Lower);
        for _ in 0..u8::MAX {
            bench.does(Deed::Raise).comes(GET).is_read().answers().does(Deed::Lower);
            if bench.connection.stays().is_some() {
                break;
            }
        }
        assert_eq!(bench.connection.stays(), Some(Stays::ReadAlone));
    }

    #[test]
    fn what_is_no_plain_http_is_left_alone() {
        let mut bench = Bench::new();
        bench.cycle(GET).comes(GET).does(Deed::Wait).comes(GET).does(Deed::Lower);
        assert_eq!(bench.connection.stays(), Some(Stays::Pipelined));
        let mut bench = Bench::new();
        bench.cycle(GET).comes("GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n").does(Deed::Lower);
        assert_eq!(bench.connection.stays(), Some(Stays::Tunnel));
        let mut bench = Bench::new();
        for _ in 0..3 {
            bench.does(Deed::Raise).comes("\u{16}\u{3}").does(Deed::Lower).is_read().answers();
        }
        assert_eq!(bench.connection.stays(), Some(Stays::Foreign));
    }
}
