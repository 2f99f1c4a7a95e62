//! What an entry of a tree holds, in few bytes: lists have hundreds of thousands of them. On disk it is
//! a text.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

const HASH_BYTES: usize = 32;

/// What an entry of a tree holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Cow<'_, str>", into = "String")]
pub enum Content {
    /// sha256 of a file.
    Hash([u8; HASH_BYTES]),
    /// A symlink's target; empty for what holds nothing.
    Text(Box<str>),
}

impl Content {
    /// As it is written.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Hash(hash) => hex(hash).into(),
            Self::Text(text) => (&**text).into(),
        }
    }
}

impl From<Cow<'_, str>> for Content {
    /// A target that looks like a hash is kept as one: its text is the same.
    fn from(text: Cow<'_, str>) -> Self {
        hash_of(&text).map_or_else(|| Self::Text(text.into()), Self::Hash)
    }
}

impl From<Content> for String {
    fn from(content: Content) -> Self {
        content.text().into_owned()
    }
}

fn hash_of(text: &str) -> Option<[u8; HASH_BYTES]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != HASH_BYTES || !rest.is_empty() {
        return None;
    }
    let mut hash = [0; HASH_BYTES];
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(hash)
}

/// Bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_text_is_what_it_was() {
        let hash = "00ff".repeat(16);
        let texts = [hash.as_str(), "", "bin/web", &hash.to_ascii_uppercase(), &"é".repeat(32)];
        for text in texts {
            let content = Content::from(Cow::from(text));
            assert_eq!(content.text(), text);
            let json = serde_json::to_string(&content).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), content);
        }
        assert!(matches!(Content::from(Cow::from(hash)), Content::Hash(_)));
    }
}
