//! Families of kinds: what can save data, what can be an entry point, what a probe can ask.
//!
//! A kind is a file with its name and keys (`KIND`) and its reader (`read`), and one line in the
//! [`kinds`] of its family. Nothing else in this room knows it.

use super::raw::Section;

/// A kind as its family sees it.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// In the order in which they are listed for people.
    pub(super) keys: &'static [&'static str],
    /// It asks through the service's listener, so there must be one.
    pub(super) needs_listener: bool,
}

impl Kind {
    pub(super) const fn new(name: &'static str, keys: &'static [&'static str]) -> Self {
        Self { name, keys, needs_listener: false }
    }

    pub(super) const fn through_listener(self) -> Self {
        Self { needs_listener: true, ..self }
    }
}

/// A kind with its reader, which returns nothing where it has reported a problem.
pub(super) struct Row<T> {
    pub(super) kind: Kind,
    pub(super) read: fn(&Section<'_>) -> Option<T>,
}

/// An enum of a family with a variant a kind, and its table `KINDS`. A line is the variant with what
/// its reader returns, and its file. Variants after the semicolon have no file and no row.
macro_rules! kinds {
    (
        $(#[$meta:meta])*
        pub enum $family:ident {
            $($(#[$doc:meta])* $variant:ident $(($settings:ty))? = $file:ident,)+
        }
    ) => {
        kinds! {
            $(#[$meta])*
            pub enum $family {
                $($(#[$doc])* $variant $(($settings))? = $file,)+
                ;
            }
        }

        impl $family {
            /// The kind's name, as it is written.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $file::KIND.name,)+
                }
            }
        }
    };
    (
        $(#[$meta:meta])*
        pub enum $family:ident {
            $($(#[$doc:meta])* $variant:ident $(($settings:ty))? = $file:ident,)+
            ; $($(#[$plain_doc:meta])* $plain:ident,)*
        }
    ) => {
        $(#[$meta])*
        pub enum $family {
            $($(#[$doc])* $variant $(($settings))?,)+
            $($(#[$plain_doc])* $plain,)*
        }

        impl $family {
            const KINDS: &'static [$crate::config::kinds::Row<Self>] = &[
                $($crate::config::kinds::Row {
                    kind: $file::KIND,
                    read: |section| {
                        $file::read(section).map(kinds!(@variant $family $variant $(($settings))?))
                    },
                },)+
            ];
        }
    };
    (@variant $family:ident $variant:ident) => { |()| $family::$variant };
    (@variant $family:ident $variant:ident ($settings:ty)) => { $family::$variant };
}
pub(super) use kinds;

/// The kind that a key names.
pub(super) fn named<T>(
    section: &Section<'_>,
    key: &str,
    rows: &'static [Row<T>],
) -> Option<&'static Row<T>> {
    let words: Vec<_> = rows.iter().map(|row| (row.kind.name, row)).collect();
    section.word(key, &words)
}

/// `a, b or c`
pub(super) fn one_of<S: AsRef<str>>(names: &[S]) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        text.push_str(match index {
            0 => "",
            _ if index + 1 == names.len() => " or ",
            _ => ", ",
        });
        text.push_str(name.as_ref());
    }
    text
}

/// Most keys of a section.
const N_KEYS_MAX: usize = 32;

/// The keys of a section that has kinds, each once.
pub(super) struct Keys {
    list: [&'static str; N_KEYS_MAX],
    n: usize,
}

impl Keys {
    pub(super) const fn new() -> Self {
        Self { list: [""; N_KEYS_MAX], n: 0 }
    }

    pub(super) const fn and(mut self, keys: &[&'static str]) -> Self {
        let mut at = 0;
        while at < keys.len() {
            if !self.has(keys[at]) {
                self.list[self.n] = keys[at];
                self.n += 1;
            }
            at += 1;
        }
        self
    }

    pub(super) const fn and_of<T>(mut self, rows: &[Row<T>]) -> Self {
        let mut at = 0;
        while at < rows.len() {
            self = self.and(rows[at].kind.keys);
            at += 1;
        }
        self
    }

    pub(super) const fn list(&self) -> &[&'static str] {
        self.list.split_at(self.n).0
    }

    const fn has(&self, key: &str) -> bool {
        let mut at = 0;
        while at < self.n {
            if is_same(self.list[at].as_bytes(), key.as_bytes()) {
                return true;
            }
            at += 1;
        }
        false
    }
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_a_sentence_lists_them() {
        for (names, text) in
            [(&[][..], ""), (&["a"], "a"), (&["a", "b"], "a or b"), (&["a", "b", "c"], "a, b or c")]
        {
            assert_eq!(one_of(names), text);
        }
    }

    #[test]
    fn a_key_of_two_kinds_is_listed_once() {
        const KEYS: &Keys = &Keys::new().and(&["kind", "path"]).and(&["path", "pat", "url"]);
        assert_eq!(KEYS.list(), ["kind", "path", "pat", "url"]);
    }
}
