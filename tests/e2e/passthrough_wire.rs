//! Requests and answers of `/dev/fuse`, as bytes: fields one behind the other, in the order of `linux/fuse.h`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::Stat;

/// The arguments of a request, read from the front.
pub struct Words<'a>(pub &'a [u8]);

impl<'a> Words<'a> {
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (first, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        first
    }

    pub fn u32(&mut self) -> u32 {
        self.bytes(4).try_into().map_or(0, u32::from_ne_bytes)
    }

    pub fn u64(&mut self) -> u64 {
        self.bytes(8).try_into().map_or(0, u64::from_ne_bytes)
    }

    pub fn name(&mut self) -> &'a OsStr {
        let n = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        let name = self.bytes(n);
        self.bytes(1);
        OsStr::from_bytes(name)
    }
}

/// An answer, written at the back.
#[derive(Default)]
pub struct Answer(pub Vec<u8>);

impl Answer {
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    pub fn attributes(self, stat: &Stat) -> Self {
        let (size, links) = (stat.st_size as u64, stat.st_nlink as u32);
        let own = self.u64(stat.st_ino).u64(size).u64(stat.st_blocks as u64);
        let own = own.u64(stat.st_atime as u64).u64(stat.st_mtime as u64).u64(stat.st_ctime as u64);
        let own = own.u32(stat.st_atime_nsec as u32).u32(stat.st_mtime_nsec as u32);
        let own = own.u32(stat.st_ctime_nsec as u32).u32(stat.st_mode).u32(links);
        own.u32(stat.st_uid).u32(stat.st_gid).u32(stat.st_rdev as u32).u32(4096).u32(0)
    }
}
