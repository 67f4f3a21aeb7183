//! Whether a JSON document that comes in pieces has come to its end.

/// Counts a document's open brackets, strings left aside. It does not validate.
#[derive(Debug, Default)]
pub(crate) struct Brackets {
    depth: u64,
    begun: bool,
    in_string: bool,
    escaped: bool,
}

impl Brackets {
    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        for byte in piece {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.begun = true;
                    self.depth += 1;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Every bracket that was opened is closed, and there was one.
    pub(crate) const fn closed(&self) -> bool {
        self.begun && self.depth == 0 && !self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_document_is_closed_however_it_is_cut() {
        let text = br#" {"a":["]}","\\\"}"],"b":{}} "#;
        let end = text.len() - 1;
        for cut in 0..=text.len() {
            let mut brackets = Brackets::default();
            brackets.push(&text[..cut]);
            assert_eq!(brackets.closed(), cut >= end, "{cut}");
            brackets.push(&text[cut..]);
            assert!(brackets.closed());
        }
    }
}
