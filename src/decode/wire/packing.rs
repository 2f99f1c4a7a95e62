//! Ways to pack that are not read here, and the commands that unpack them. A decoder says which one it has
//! met; what is to be typed is never a word of the decoder's.

/// Ways to pack that are not read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// By `xz`, also as it was before.
    Xz,
    /// By `bzip2`.
    Bzip2,
    /// By `lz4`.
    Lz4,
    /// By `lzip`.
    Lzip,
    /// By `compress`.
    Compress,
    /// A zip file.
    Zip,
    /// By `7z`.
    SevenZip,
    /// By `rar`.
    Rar,
}

impl Packing {
    /// Each; its place is its name on the wire.
    pub const ALL: [Self; 8] = [
        Self::Xz,
        Self::Bzip2,
        Self::Lz4,
        Self::Lzip,
        Self::Compress,
        Self::Zip,
        Self::SevenZip,
        Self::Rar,
    ];

    /// Its name, and the command that unpacks: to its standard output, or into the directory `$d`.
    #[must_use]
    pub fn unpacking(self) -> (&'static str, Unpacking) {
        use Unpacking::{Directory, Stream};
        match self {
            Self::Xz => ("xz", Stream("xz -dc SOURCE")),
            Self::Bzip2 => ("bzip2", Stream("bzip2 -dc SOURCE")),
            Self::Lz4 => ("lz4", Stream("lz4 -dc SOURCE")),
            Self::Lzip => ("lzip", Stream("lzip -dc SOURCE")),
            Self::Compress => ("compress", Stream("gzip -dc SOURCE")),
            Self::Zip => ("zip", Directory("unzip -q SOURCE -d \"$d\"")),
            Self::SevenZip => ("7z", Directory("7z x -o\"$d\" SOURCE")),
            Self::Rar => ("rar", Directory("unrar x SOURCE \"$d\"/")),
        }
    }
}

/// How something is unpacked; `SOURCE` stands for its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpacking {
    /// To the standard output.
    Stream(&'static str),
    /// Into the directory `$d`.
    Directory(&'static str),
}

impl Unpacking {
    /// The command that releases what it gives.
    #[must_use]
    pub fn release(self, service: &str) -> String {
        match self {
            Self::Stream(command) => format!("{command} | halley-sup release {service} -"),
            Self::Directory(command) => {
                format!("d=$(mktemp -d) && {command} && halley-sup release {service} \"$d\"")
            }
        }
    }
}
