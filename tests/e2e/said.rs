//! What a command of the product has said.

use serde_json::Value;

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// The last line of `--json`.
    pub fn result(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or("null");
        serde_json::from_str(last).unwrap_or(Value::Null)
    }

    /// Why what was asked for was not done.
    pub fn why(&self) -> String {
        let result = self.result();
        let trouble = if result["trouble"].is_null() { &result } else { &result["trouble"] };
        trouble["why"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n{}\n{}", self.stdout, self.stderr);
        self
    }
}
