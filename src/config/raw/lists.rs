//! Lists of lists: several commands under one key.

use toml::Spanned;
use toml::de::DeValue;

use super::Section;

impl Section<'_> {
    /// A list of lists of strings; `None` where it is anything else, which is not reported unless
    /// some items are lists.
    pub(in crate::config) fn text_lists(&self, key: &str) -> Option<Vec<Vec<String>>> {
        let (_, value) = self.find(key)?;
        let DeValue::Array(items) = value.get_ref() else { return None };
        let is_list = |item: &&Spanned<DeValue<'_>>| matches!(item.get_ref(), DeValue::Array(_));
        if !items.iter().any(|item| is_list(&item)) {
            return None;
        }
        let mut lists = Vec::new();
        for item in items.iter() {
            let DeValue::Array(words) = item.get_ref() else {
                self.wrong_type(key, item, "a list like the others in this list", None);
                continue;
            };
            let words: Vec<_> =
                words.iter().map(|word| self.text_of(key, word, "a text in this list")).collect();
            let words: Option<Vec<_>> = words.into_iter().collect();
            lists.extend(words.map(|words| words.into_iter().map(|found| found.value).collect()));
        }
        Some(lists)
    }
}
