//! Single values: expanded, parsed, held against their bounds.

use std::time::Duration;

use router::spec::Secret;
use router::{ModelName, RegionName};
use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostic::{Code, Diagnostic, Place};
use crate::expand::{ExpandError, expand};
use crate::nearest::nearest;
use crate::scalar;
use crate::tree::{Node, Value};
use crate::ty::{Type, one_of};
use crate::walk::Walk;

/// Longest text value after expansion, bytes.
const TEXT_MAX_BYTES: usize = 4096;
/// Longest credential after expansion, bytes: signed tokens fit.
const SECRET_MAX_BYTES: usize = 16 << 10;

/// A scalar's text before and after expansion.
struct Text {
    text: String,
    raw: Option<String>,
}

impl Text {
    /// What messages may show: the text as it stands in the file.
    fn shown(&self) -> String {
        let shown = self.raw.as_ref().unwrap_or(&self.text);
        let mut short: String = shown.chars().take(60).collect();
        if short.len() < shown.len() {
            short.push_str("..");
        }
        format!("{short:?}")
    }
}

impl Walk<'_> {
    /// A value that is no table and no array.
    pub(crate) fn scalar(
        &mut self,
        path: &str,
        ty: &Type,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Node> {
        let place = self.place(value.span());
        let (value, raw) = match (ty, value.get_ref()) {
            (Type::Bool, DeValue::Boolean(v)) => (Value::Bool(*v), None),
            (Type::Integer { min, max }, DeValue::Integer(v)) => {
                let number = i64::from_str_radix(&v.as_str().replace('_', ""), v.radix()).ok();
                (self.integer(path, ty, number, *min, *max, &place)?, None)
            }
            (Type::Number { .. }, DeValue::Float(v)) => {
                (self.number(path, ty, v.as_str(), &place)?, None)
            }
            (Type::Number { .. }, DeValue::Integer(v)) => {
                (self.number(path, ty, v.as_str(), &place)?, None)
            }
            (Type::Moment, DeValue::Datetime(v)) => {
                let seconds = scalar::moment_of(v);
                (Value::Moment(self.parsed(path, ty, seconds, "the moment", &place)?), None)
            }
            (_, DeValue::String(text)) => {
                let text = self.expanded(path, text, &place)?;
                let value = self.read_text(path, ty, &text, &place)?;
                (value, text.raw)
            }
            _ => {
                self.wrong_type(path, ty, value);
                return None;
            }
        };
        Some(Node { place, raw, value })
    }

    fn expanded(&mut self, path: &str, text: &str, place: &Place) -> Option<Text> {
        let error = match expand(text, self.base, self.env) {
            Ok(expanded) => {
                self.files.extend(expanded.files);
                let raw = expanded.changed.then(|| text.to_owned());
                return Some(Text { text: expanded.text, raw });
            }
            Err(error) => error,
        };
        // A file that is missing now is watched: it may come.
        if let ExpandError::File(file, _) = &error {
            self.files.push(file.clone());
        }
        let diagnostic = |code, message| Diagnostic::error(code, place.clone(), message);
        self.out.push(match error {
            ExpandError::Undefined(name) => diagnostic(
                Code::UndefinedVariable,
                format!("the environment variable {name} of `{path}` is not set"),
            )
            .label("no value and no default")
            .help(format!("set {name}, or give a default: ${{{name}:-...}}")),
            ExpandError::Unclosed => {
                diagnostic(Code::Expansion, format!("`${{` without `}}` in `{path}`"))
                    .help("a plain `${` is written `$${`")
            }
            ExpandError::BadName(_) => {
                diagnostic(Code::Expansion, format!("`${{..}}` in `{path}` holds no variable name"))
                    .label("expected ${NAME}, ${NAME:-default} or ${file:path}")
                    .help("a plain `${` is written `$${`")
            }
            ExpandError::File(file, kind) => diagnostic(
                Code::Expansion,
                format!("the file {} of `{path}` cannot be read: {kind}", file.display()),
            ),
        });
        None
    }

    fn read_text(&mut self, path: &str, ty: &Type, text: &Text, place: &Place) -> Option<Value> {
        let longest = if matches!(ty, Type::Secret) { SECRET_MAX_BYTES } else { TEXT_MAX_BYTES };
        if text.text.len() > longest {
            let message = format!("`{path}` is longer than {longest} bytes");
            self.out.push(Diagnostic::error(Code::OutOfRange, place.clone(), message));
            return None;
        }
        let shown = text.shown();
        let was_expanded = text.raw.is_some();
        let value = text.text.as_str();
        match ty {
            Type::Secret => Some(Value::Secret(Secret::new(value))),
            Type::Text => Some(Value::Text(value.to_owned())),
            Type::Path if value.is_empty() => {
                self.refuse(path, ty, &shown, "it is empty", place);
                None
            }
            Type::Path => Some(Value::Path(self.base.join(value))),
            Type::Word(words) => self.word(path, words, text, place),
            Type::Duration { .. } => self.duration(path, ty, text, place),
            Type::Size { min, max } => {
                let bytes = self.parsed(path, ty, scalar::size(value), &shown, place)?;
                let range = (scalar::show_size(*min), scalar::show_size(*max));
                self.within(path, bytes, (*min, *max), range, place).map(Value::Size)
            }
            Type::Socket => {
                self.parsed(path, ty, scalar::socket(value), &shown, place).map(Value::Socket)
            }
            Type::Moment => {
                self.parsed(path, ty, scalar::moment(value), &shown, place).map(Value::Moment)
            }
            Type::Url => self.url(path, text, place),
            Type::Name => self.name(path, text, place, RegionName::try_from(value).err()),
            Type::Model => self.name(path, text, place, ModelName::try_from(value).err()),
            Type::Header => self.header(path, text, place),
            // Only a variable can give a number or a truth value as text.
            Type::Bool if was_expanded => {
                let parsed = value.parse::<bool>().map_err(|_| "it is neither true nor false");
                self.parsed(path, ty, parsed, &shown, place).map(Value::Bool)
            }
            Type::Integer { min, max } if was_expanded => {
                self.integer(path, ty, value.parse().ok(), *min, *max, place)
            }
            Type::Number { .. } if was_expanded => self.number(path, ty, value, place),
            _ => {
                let message = format!("`{path}` cannot be a text");
                let mut diagnostic =
                    Diagnostic::error(Code::WrongType, place.clone(), message).label(ty.expected());
                if matches!(ty, Type::Integer { .. } | Type::Number { .. } | Type::Bool) {
                    diagnostic = diagnostic.help("leave the quotes away");
                }
                self.out.push(diagnostic);
                None
            }
        }
    }

    fn refuse(&mut self, path: &str, ty: &Type, shown: &str, why: &str, place: &Place) {
        let message = format!("`{path}` cannot be {shown}: {why}");
        let diagnostic = Diagnostic::error(Code::WrongValue, place.clone(), message);
        self.out.push(diagnostic.label(ty.expected()));
    }

    fn parsed<T>(
        &mut self,
        path: &str,
        ty: &Type,
        result: Result<T, &'static str>,
        shown: &str,
        place: &Place,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(why) => {
                self.refuse(path, ty, shown, why, place);
                None
            }
        }
    }

    fn within(
        &mut self,
        path: &str,
        value: u64,
        (min, max): (u64, u64),
        (low, high): (String, String),
        place: &Place,
    ) -> Option<u64> {
        if (min..=max).contains(&value) {
            return Some(value);
        }
        let message = if value < min {
            format!("`{path}` is too small: at least {low}")
        } else {
            format!("`{path}` is too large: at most {high}")
        };
        let diagnostic = Diagnostic::error(Code::OutOfRange, place.clone(), message);
        self.out.push(diagnostic.label(format!("from {low} to {high}")));
        None
    }

    fn duration(&mut self, path: &str, ty: &Type, text: &Text, place: &Place) -> Option<Value> {
        let Type::Duration { min, max, off } = ty else { return None };
        if *off && text.text == "off" {
            return Some(Value::Duration(None));
        }
        let duration = scalar::duration(&text.text);
        let duration = self.parsed(path, ty, duration, &text.shown(), place)?;
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let show = |ms| scalar::show_duration(Duration::from_millis(ms));
        self.within(path, ms, (*min, *max), (show(*min), show(*max)), place)?;
        Some(Value::Duration(Some(duration)))
    }

    fn integer(
        &mut self,
        path: &str,
        ty: &Type,
        number: Option<i64>,
        min: i64,
        max: i64,
        place: &Place,
    ) -> Option<Value> {
        let good = number.filter(|number| (min..=max).contains(number));
        if good.is_none() && path == "version" {
            let message = format!("this version of the format is not known; the last one is {max}");
            self.out.push(Diagnostic::error(Code::Version, place.clone(), message));
        } else if good.is_none() {
            self.not_in_range(path, ty, place);
        }
        good.map(Value::Integer)
    }

    fn number(&mut self, path: &str, ty: &Type, text: &str, place: &Place) -> Option<Value> {
        let Type::Number { min, max } = ty else { return None };
        let number = text.replace('_', "").parse::<f64>().ok();
        let good = number.filter(|number| (*min..=*max).contains(number));
        if good.is_none() {
            self.not_in_range(path, ty, place);
        }
        good.map(Value::Number)
    }

    fn not_in_range(&mut self, path: &str, ty: &Type, place: &Place) {
        let message = format!("`{path}` is out of range");
        let diagnostic = Diagnostic::error(Code::OutOfRange, place.clone(), message);
        self.out.push(diagnostic.label(ty.expected()));
    }

    fn word(
        &mut self,
        path: &str,
        words: &'static [&'static str],
        text: &Text,
        place: &Place,
    ) -> Option<Value> {
        if words.contains(&text.text.as_str()) {
            return Some(Value::Text(text.text.clone()));
        }
        let message = format!("`{path}` cannot be {}", text.shown());
        let mut diagnostic = Diagnostic::error(Code::WrongValue, place.clone(), message)
            .label(format!("expected {}", one_of(words)));
        if let Some(found) = nearest(&text.text, words.iter().copied()) {
            diagnostic = diagnostic.help(format!("did you mean {found:?}?"));
        }
        self.out.push(diagnostic);
        None
    }

    fn url(&mut self, path: &str, text: &Text, place: &Place) -> Option<Value> {
        match scalar::base_url(&text.text) {
            Ok(url) => Some(Value::Text(url)),
            Err(why) => {
                // The text is not repeated: a refused URL may hold credentials.
                if text.text.contains(['@', '?', '#']) {
                    self.secrets.push(place.span.clone());
                }
                let message = format!("`{path}` is no usable base URL: {why}");
                let diagnostic = Diagnostic::error(Code::BadUrl, place.clone(), message);
                self.out.push(diagnostic.label(Type::Url.expected()));
                None
            }
        }
    }

    fn name(
        &mut self,
        path: &str,
        text: &Text,
        place: &Place,
        error: Option<router::NameError>,
    ) -> Option<Value> {
        let Some(error) = error else { return Some(Value::Text(text.text.clone())) };
        // An expanded text is not to be shown, not even a character of it.
        let why = if text.raw.is_some() {
            "the expanded text is no name".to_owned()
        } else {
            error.to_string()
        };
        let message = format!("`{path}` cannot be used: {why}");
        self.out.push(Diagnostic::error(Code::BadName, place.clone(), message));
        None
    }

    fn header(&mut self, path: &str, text: &Text, place: &Place) -> Option<Value> {
        // RFC 9110 5.6.2: a field name is a token.
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let name = text.text.to_ascii_lowercase();
        if name.is_empty() || name.len() > 128 || !name.chars().all(token) {
            self.refuse(path, &Type::Header, &text.shown(), "it is no header name", place);
            return None;
        }
        Some(Value::Text(name))
    }
}
