//! Which pieces an answer has, in order: a pure function of script and request.

use crate::ask::{Ask, Route};
use crate::dialect::{Choice, Count, Meta};
use crate::profile::Kind;
use crate::script::{Part, Script, Usage};

/// Longest piece of tool-call arguments in one chunk, bytes.
const ARGUMENT_PIECE: usize = 4;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Role { choice: usize },
    Word { choice: usize, index: usize, first: bool, reasoning: bool, finish: Option<String> },
    ToolName { choice: usize },
    ToolArguments { choice: usize, from: usize, to: usize },
    Finish { choice: usize, reason: String },
    Usage,
    Done,
}

impl Piece {
    /// Whether this event says that its choice is complete.
    pub(crate) fn finishes(&self) -> bool {
        matches!(self, Self::Finish { .. } | Self::Word { finish: Some(_), .. })
    }
}

/// What the model says.
#[derive(Debug)]
pub(crate) struct Speech {
    pub(crate) start: usize,
    pub(crate) words: usize,
    pub(crate) finish: String,
    pub(crate) choices: usize,
}

impl Speech {
    pub(crate) fn new(kind: Kind, script: &Script, ask: &Ask) -> Self {
        let words = ask.max_tokens.map_or(script.words, |max| script.words.min(max));
        let natural = match (&script.tool_call, words < script.words) {
            (Some(_), _) => "tool_calls",
            (None, true) => "length",
            (None, false) => "stop",
        };
        Self {
            start: ask.first_word(kind, script.start),
            words,
            finish: script.finish.clone().unwrap_or_else(|| natural.to_owned()),
            choices: script.choices.unwrap_or(ask.choices),
        }
    }

    pub(crate) fn count(&self, script: &Script, ask: &Ask) -> Count {
        let each = script.tool_call.as_ref().map_or(self.words, |call| call.arguments.len());
        Count { prompt: ask.prompt_tokens, completion: each * self.choices }
    }

    /// Whether the `i`-th word begins a text and so has no space before it.
    fn opens(&self, script: &Script, i: usize) -> bool {
        self.start + i == 0 || (i > 0 && i == script.reasoning)
    }

    /// All events, choices interleaved word by word.
    pub(crate) fn pieces(&self, kind: Kind, script: &Script, ask: &Ask) -> Vec<Piece> {
        let choices = 0..self.choices;
        let mut pieces = Vec::with_capacity(self.words * self.choices + 4);
        let role_chunk = ask.route == Route::Chat && kind != Kind::Ollama;
        if role_chunk && !script.omits(Part::Role) {
            pieces.extend(choices.clone().map(|choice| Piece::Role { choice }));
        }
        let finish = !script.omits(Part::Finish);
        // vLLM puts the reason `length` on the last word and every other on a chunk of its own.
        let joined = kind == Kind::Vllm && self.finish == "length" && self.words > 0;
        if let Some(call) = &script.tool_call {
            for choice in choices.clone() {
                tool(kind, choice, &call.arguments, &mut pieces);
            }
        } else {
            for i in 0..self.words {
                let last = i + 1 == self.words;
                pieces.extend(choices.clone().map(|choice| Piece::Word {
                    choice,
                    index: self.start + i,
                    first: self.opens(script, i),
                    reasoning: i < script.reasoning,
                    finish: (joined && last && finish).then(|| self.finish.clone()),
                }));
            }
        }
        if finish && !(joined && script.tool_call.is_none()) {
            let reason = &self.finish;
            pieces.extend(choices.map(|choice| Piece::Finish { choice, reason: reason.clone() }));
        }
        let usage = match script.usage {
            Usage::Asked | Usage::Null => ask.include_usage,
            Usage::Always | Usage::EveryChunk => true,
            Usage::Never => false,
        };
        if usage {
            pieces.push(Piece::Usage);
        }
        if !script.omits(Part::Done) {
            pieces.push(Piece::Done);
        }
        pieces
    }

    /// The whole answer as one document.
    pub(crate) fn document(&self, meta: &Meta, script: &Script, ask: &Ask) -> String {
        let mut choice = Choice { finish: self.finish.clone(), ..Choice::default() };
        if script.tool_call.is_none() {
            for i in 0..self.words {
                let reasoning = i < script.reasoning;
                let first = self.opens(script, i);
                let text = if reasoning { &mut choice.reasoning } else { &mut choice.content };
                text.push_str(&meta.word(self.start + i, first));
            }
        }
        let choices = vec![choice; self.choices];
        meta.document(&choices, self.count(script, ask))
    }
}

/// The events of a tool call.
fn tool(kind: Kind, choice: usize, arguments: &str, pieces: &mut Vec<Piece>) {
    pieces.push(Piece::ToolName { choice });
    if kind == Kind::Ollama {
        // Ollama sends the call whole in one delta.
        return;
    }
    let mut from = 0;
    while from < arguments.len() {
        let mut to = (from + ARGUMENT_PIECE).min(arguments.len());
        while !arguments.is_char_boundary(to) {
            to += 1;
        }
        pieces.push(Piece::ToolArguments { choice, from, to });
        from = to;
    }
}
