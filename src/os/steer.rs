//! The steering program: which slot of a listener's group a new connection goes to.
//!
//! A classic-BPF program on a SO_REUSEPORT group (`socket(7)`, `SO_ATTACH_REUSEPORT_CBPF`, Linux
//! 4.5 for UDP and 4.6 for TCP; no privilege needed) returns the position of a socket in its
//! group. Attaching replaces the program atomically: that is the flip. A position outside of the
//! group would make the kernel hash over all sockets, so [`program`] never builds one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

/// What comes from exactly this source goes to this position; port 0 is any port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Address and port that the connection comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub position: u16,
}

/// A position and its part of all other connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Where they go.
    pub position: u16,
    /// How many, in proportion to the sum of all weights.
    pub weight: u32,
}

/// One instruction, as the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

/// Why no program was built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// No slot would get the other connections.
    #[error("no slot has a weight")]
    NoShare,
    /// A position that the group does not have.
    #[error("position {position} is outside of a group of {n_positions}")]
    Outside {
        /// The position.
        position: u16,
        /// The size of the group.
        n_positions: u16,
    },
    /// More rules or shares than a program can hold.
    #[error("{n} rules and shares are too many for one program")]
    TooLong {
        /// How many.
        n: usize,
    },
}

const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const MODULO: u16 = 0x94;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Offsets from here on count from the network header (`SKF_NET_OFF`, -0x100000).
const NETWORK: u32 = 0xfff0_0000;
/// A random word (`SKF_AD_OFF` -0x1000, `SKF_AD_RANDOM` 56; Linux 3.17).
const RANDOM: u32 = 0xffff_f000 + 56;
/// The kernel takes 4096 instructions; a rule for IPv6 takes eleven.
const N_MAX: usize = 256;

/// Builds the program for a group of `n_positions` sockets.
///
/// Source addresses are compared whole. The port is read behind a header without options, which is
/// what our own probes send; a stranger's header with options can only miss the rule, because its
/// address is not ours.
///
/// # Errors
/// [`ProgramError`].
pub fn program(
    rules: &[Rule],
    shares: &[Share],
    n_positions: u16,
) -> Result<Vec<Instruction>, ProgramError> {
    let positions = rules.iter().map(|r| r.position).chain(shares.iter().map(|s| s.position));
    for position in positions {
        if position >= n_positions {
            return Err(ProgramError::Outside { position, n_positions });
        }
    }
    if rules.len() + shares.len() > N_MAX {
        return Err(ProgramError::TooLong { n: rules.len() + shares.len() });
    }
    let mut program = Vec::new();
    for rule in rules {
        program.extend(match rule.source.ip() {
            IpAddr::V4(_) => rule_v4(rule),
            IpAddr::V6(_) => rule_v6(rule),
        });
    }
    program.extend(spread(shares)?);
    Ok(program)
}

fn rule_v4(rule: &Rule) -> Vec<Instruction> {
    let IpAddr::V4(ip) = rule.source.ip() else { return Vec::new() };
    let mut checks = vec![(LOAD_WORD, 12, u32::from(ip))];
    checks.extend(port_check(rule, 20));
    checked(4, &checks, rule.position)
}

fn rule_v6(rule: &Rule) -> Vec<Instruction> {
    let IpAddr::V6(ip) = rule.source.ip() else { return Vec::new() };
    let octets = ip.octets();
    let word =
        |n: usize| u32::from_be_bytes([octets[n], octets[n + 1], octets[n + 2], octets[n + 3]]);
    let mut checks = vec![
        (LOAD_WORD, 8, word(0)),
        (LOAD_WORD, 12, word(4)),
        (LOAD_WORD, 16, word(8)),
        (LOAD_WORD, 20, word(12)),
    ];
    checks.extend(port_check(rule, 40));
    checked(6, &checks, rule.position)
}

fn port_check(rule: &Rule, offset: u32) -> Option<(u16, u32, u32)> {
    let port = rule.source.port();
    (port != 0).then_some((LOAD_HALF, offset, u32::from(port)))
}

/// All checks hold for a packet of this IP version: return; else go on behind the return.
fn checked(version: u32, checks: &[(u16, u32, u32)], position: u16) -> Vec<Instruction> {
    let mut left = u8::try_from(checks.len() * 2).unwrap_or(u8::MAX);
    let mut out = vec![
        plain(LOAD_BYTE, NETWORK),
        plain(AND, 0xf0),
        jump(JUMP_EQUAL, version << 4, 0, left + 1),
    ];
    for (load, offset, wanted) in checks {
        left -= 2;
        out.push(plain(*load, NETWORK + offset));
        out.push(jump(JUMP_EQUAL, *wanted, 0, left + 1));
    }
    out.push(plain(RETURN, u32::from(position)));
    out
}

fn spread(shares: &[Share]) -> Result<Vec<Instruction>, ProgramError> {
    let shares: Vec<&Share> = shares.iter().filter(|share| share.weight > 0).collect();
    let total: u32 = shares.iter().fold(0, |sum, share| sum.saturating_add(share.weight));
    let Some((last, others)) = shares.split_last() else { return Err(ProgramError::NoShare) };
    let mut out = Vec::new();
    if !others.is_empty() {
        out.push(plain(LOAD_WORD, RANDOM));
        out.push(plain(MODULO, total));
    }
    let mut below = 0;
    for share in others {
        below += share.weight;
        out.push(jump(JUMP_AT_LEAST, below, 1, 0));
        out.push(plain(RETURN, u32::from(share.position)));
    }
    out.push(plain(RETURN, u32::from(last.position)));
    Ok(out)
}

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, k }
}

fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

/// Attaches a program to the group of this socket, in the place of the one before.
///
/// # Errors
/// `setsockopt(2)`'s.
pub fn attach(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `Instruction` has the layout of `sock_filter`; the kernel copies the program before
    // it returns and writes nothing.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            u32::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet as the program sees it: its network header and what follows.
    fn packet(source: &str) -> Vec<u8> {
        let source: SocketAddr = source.parse().unwrap();
        let mut bytes = vec![0; 64];
        let port = source.port().to_be_bytes();
        match source.ip() {
            IpAddr::V4(ip) => {
                bytes[0] = 0x45;
                bytes[12..16].copy_from_slice(&ip.octets());
                bytes[20..22].copy_from_slice(&port);
            }
            IpAddr::V6(ip) => {
                bytes[0] = 0x60;
                bytes[8..24].copy_from_slice(&ip.octets());
                bytes[40..42].copy_from_slice(&port);
            }
        }
        bytes
    }

    /// The kernel's machine, as far as our programs use it.
    fn interpret(program: &[Instruction], packet: &[u8], random: u32) -> u32 {
        let (mut at, mut a) = (0, 0_u32);
        loop {
            let step = program[at];
            let offset = step.k.wrapping_sub(NETWORK) as usize;
            at += 1;
            match step.code {
                LOAD_WORD if step.k == RANDOM => a = random,
                LOAD_WORD => a = u32::from_be_bytes(packet[offset..offset + 4].try_into().unwrap()),
                LOAD_HALF => {
                    a = u32::from(u16::from_be_bytes(
                        packet[offset..offset + 2].try_into().unwrap(),
                    ))
                }
                LOAD_BYTE => a = u32::from(packet[offset]),
                AND => a &= step.k,
                MODULO => a %= step.k,
                JUMP_EQUAL | JUMP_AT_LEAST => {
                    let yes = if step.code == JUMP_EQUAL { a == step.k } else { a >= step.k };
                    at += usize::from(if yes { step.jump_true } else { step.jump_false });
                }
                RETURN => return step.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn rule(source: &str, position: u16) -> Rule {
        Rule { source: source.parse().unwrap(), position }
    }

    #[test]
    fn a_rule_takes_exactly_its_source_and_nothing_else() {
        let rules = [
            rule("127.0.0.1:5000", 3),
            rule("[::1]:5000", 2),
            rule("10.1.2.3:77", 1),
            rule("127.9.9.9:0", 2),
        ];
        let program = program(&rules, &[Share { position: 0, weight: 1 }], 4).unwrap();
        let table = [
            ("127.0.0.1:5000", 3),
            ("127.0.0.1:5001", 0),
            ("127.0.0.2:5000", 0),
            ("[::1]:5000", 2),
            ("[::1]:5001", 0),
            ("[::2]:5000", 0),
            ("[1::1]:5000", 0),
            ("10.1.2.3:77", 1),
            ("127.9.9.9:1", 2),
            ("127.9.9.9:65535", 2),
        ];
        for (source, position) in table {
            assert_eq!(interpret(&program, &packet(source), 0), position, "{source}");
        }
    }

    #[test]
    fn weights_share_out_all_random_words_in_proportion() {
        let shares =
            [(0, 5), (1, 0), (2, 25), (3, 70)].map(|(position, weight)| Share { position, weight });
        let program = program(&[], &shares, 4).unwrap();
        let mut counts = [0; 4];
        for random in 0..10_000 {
            counts[interpret(&program, &packet("9.9.9.9:9"), random) as usize] += 1;
        }
        assert_eq!(counts, [500, 0, 2500, 7000]);
    }

    #[test]
    fn a_position_outside_of_the_group_is_never_built() {
        let share = |position| [Share { position, weight: 1 }];
        let outside = ProgramError::Outside { position: 2, n_positions: 2 };
        assert_eq!(program(&[], &share(2), 2), Err(outside.clone()));
        assert_eq!(program(&[rule("1.1.1.1:1", 2)], &share(0), 2), Err(outside));
        assert_eq!(program(&[], &[], 2), Err(ProgramError::NoShare));
        assert_eq!(
            program(&[], &[Share { position: 0, weight: 0 }], 1),
            Err(ProgramError::NoShare)
        );
        let many = vec![rule("1.1.1.1:1", 0); N_MAX];
        assert!(matches!(program(&many, &share(0), 1), Err(ProgramError::TooLong { .. })));
    }
}
