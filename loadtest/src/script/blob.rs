//! Bytes as a script writes them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes in a script: text, a repetition of text, or hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Blob {
    /// As written.
    Text(String),
    /// `repeat` written `times` times.
    Repeat {
        /// What to repeat.
        repeat: String,
        /// How often.
        times: usize,
    },
    /// Any bytes, as hexadecimal digits; other characters are ignored.
    Hex {
        /// The digits.
        hex: String,
    },
}

impl Blob {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Self::Repeat { repeat, times } => Bytes::from(repeat.repeat(*times)),
            Self::Hex { hex } => {
                let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
                digits
                    .chunks_exact(2)
                    .map(|d| u8::try_from(d[0] * 16 + d[1]).unwrap_or_default())
                    .collect()
            }
        }
    }

    /// Any bytes, so that code need not spell hexadecimal digits.
    #[must_use]
    pub fn raw(bytes: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self::Hex { hex }
    }
}

impl Default for Blob {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<&str> for Blob {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Blob {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self::raw(bytes)
    }
}
