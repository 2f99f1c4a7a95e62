//! Families of kinds: what can save data, what can be an entry point, what a probe can ask.
//!
//! A kind is a file with its name and keys (`KIND`) and its reader (`read`), a file of the same name
//! with what the supervisor does for it, and one line in the list of its family. From that list come
//! the family's enum, its table here, and the supervisor's dispatch.

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

/// From the list of a family: its enum with a variant a kind, and the table `KINDS`. A line of the
/// list is the variant, with what its reader returns, and its file. Variants in the braces have no
/// file and no line.
macro_rules! kinds {
    (
        ($(#[$meta:meta])* pub enum $family:ident { $($(#[$plain_doc:meta])* $plain:ident,)* })
        $($(#[$doc:meta])* $variant:ident $(($settings:ident: $type:ty))? = $file:ident,)+
    ) => {
        $(#[$meta])*
        pub enum $family {
            $($(#[$doc])* $variant $(($type))?,)+
            $($(#[$plain_doc])* $plain,)*
        }

        impl $family {
            const KINDS: &'static [$crate::config::kinds::Row<Self>] = &[
                $($crate::config::kinds::Row {
                    kind: $file::KIND,
                    read: |section| {
                        $file::read(section).map(kinds!(@variant $family $variant $(($type))?))
                    },
                },)+
            ];
        }
    };
    (@variant $family:ident $variant:ident) => { |()| $family::$variant };
    (@variant $family:ident $variant:ident ($type:ty)) => { $family::$variant };
}
pub(super) use kinds;

/// From the list of a family: one arm a kind, for those who perform what a kind is about.
macro_rules! dispatch {
    (
        ($value:expr, $family:ident($kind:ident) => $asked:expr)
        $($(#[$doc:meta])* $variant:ident ($settings:ident: $type:ty) = $file:ident,)+
    ) => {
        match $value {
            $($family::$variant($kind) => $asked,)+
        }
    };
}
pub(crate) use dispatch;

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
