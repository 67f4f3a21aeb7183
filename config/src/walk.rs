//! From parsed TOML to a typed tree, with every mistake on the way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use router::ModelName;
use router::RegionName;
use router::spec::Secret;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Code, Diagnostic, Place};
use crate::environment::Environment;
use crate::expand::{ExpandError, expand};
use crate::keys;
use crate::nearest::nearest;
use crate::redact::names_a_secret;
use crate::scalar;
use crate::tree::{Entry, Node, Table, Value};
use crate::ty::{Key, Type, one_of};

/// Longest text value after expansion, bytes.
const TEXT_MAX_BYTES: usize = 4096;
/// Longest credential after expansion, bytes: TLS-sized tokens fit.
const SECRET_MAX_BYTES: usize = 16 << 10;

/// One file on its way.
pub(crate) struct Walk<'a> {
    pub(crate) source: usize,
    pub(crate) base: &'a Path,
    pub(crate) env: &'a dyn Environment,
    pub(crate) out: &'a mut Vec<Diagnostic>,
    /// Where credentials stand.
    pub(crate) secrets: Vec<Range<usize>>,
    /// Files that values were read from.
    pub(crate) files: Vec<PathBuf>,
}

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
    fn place(&self, span: Range<usize>) -> Place {
        Place { source: self.source, span }
    }

    /// A table against its keys; `path` is for messages, `""` at the top.
    pub(crate) fn table(
        &mut self,
        path: &str,
        keys: &'static [Key],
        table: &DeTable<'_>,
        span: Range<usize>,
    ) -> Table {
        let mut out = Table::new(self.place(span.clone()));
        for (name, value) in table {
            let Some(key) = keys.iter().find(|key| key.name == name.get_ref().as_ref()) else {
                self.unknown(path, keys, name, value);
                continue;
            };
            if let Some(node) = self.value(&join(path, key.name), &key.ty, value) {
                let entry = Entry { key: self.place(name.span()), node };
                out.entries.insert(key.name.to_owned(), entry);
            }
        }
        for key in keys.iter().filter(|key| key.required) {
            // A key that is there but wrong was already reported.
            if !table.keys().any(|name| name.get_ref().as_ref() == key.name) {
                let message = format!("{} needs `{}`", described(path), key.name);
                self.out.push(
                    Diagnostic::error(Code::MissingKey, self.place(span.clone()), message)
                        .label(format!("`{}` is missing", key.name))
                        .help(format!("{}: {}", key.name, key.ty.expected())),
                );
            }
        }
        out
    }

    fn unknown(
        &mut self,
        path: &str,
        keys: &'static [Key],
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let text = name.get_ref().as_ref();
        self.hide(text, value);
        let place = self.place(name.span());
        let shown: String = text.chars().take(64).collect();
        let inside = described(path);
        if let Some(key) = keys.iter().find(|key| key.former.contains(&text)) {
            self.hide_if_secret(key, value);
            let message = format!("`{shown}` is called `{}` in {inside}", key.name);
            let diagnostic = Diagnostic::error(Code::RenamedKey, place, message);
            self.out
                .push(diagnostic.label(format!("write `{}`", key.name)).help(key.ty.expected()));
            return;
        }
        let mut diagnostic = Diagnostic::error(
            Code::UnknownKey,
            place,
            format!("unknown key `{shown}` in {inside}"),
        );
        if let Some(found) = nearest(text, keys.iter().map(|key| key.name)) {
            if let Some(key) = keys.iter().find(|key| key.name == found) {
                self.hide_if_secret(key, value);
            }
            diagnostic = diagnostic.label(format!("did you mean `{found}`?"));
        } else if let Some(elsewhere) = elsewhere(text) {
            diagnostic = diagnostic.label("not a key of this table").help(elsewhere);
        } else {
            let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
            diagnostic = diagnostic
                .label("not a key of this table")
                .help(format!("known keys: {}", known.join(", ")));
        }
        self.out.push(diagnostic);
    }

    /// What stands under an unknown key may be a credential all the same.
    fn hide(&mut self, name: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (name, value) in table {
                    self.hide(name.get_ref(), value);
                }
            }
            DeValue::Array(items) => items.iter().for_each(|item| self.hide(name, item)),
            _ if names_a_secret(name) => self.secrets.push(value.span()),
            _ => {}
        }
    }

    fn hide_if_secret(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) {
        if matches!(key.ty, Type::Secret) {
            self.secrets.push(value.span());
        }
    }

    fn value(&mut self, path: &str, ty: &Type, value: &Spanned<DeValue<'_>>) -> Option<Node> {
        if matches!(ty, Type::Secret) {
            self.secrets.push(value.span());
        }
        let span = value.span();
        let place = self.place(span.clone());
        let node = |value| Some(Node { place: place.clone(), raw: None, value });
        match (ty, value.get_ref()) {
            (Type::Table(keys), DeValue::Table(table)) => {
                node(Value::Table(self.table(path, keys, table, span)))
            }
            (Type::Tables { keys, max }, DeValue::Array(items)) => {
                self.bounded(path, items.len(), *max, &place)?;
                let list = items.iter().filter_map(|item| self.object(path, keys, item)).collect();
                node(Value::List(list))
            }
            (Type::Tables { keys, .. }, DeValue::Table(table)) => {
                // `[backend]` for `[[backend]]`: say so, but look inside all the same.
                let message = format!("`{path}` is an array of tables");
                self.out.push(
                    Diagnostic::error(Code::WrongType, place.clone(), message)
                        .label(format!("write [[{path}]]")),
                );
                let table = self.table(path, keys, table, span);
                let item = Node { place: place.clone(), raw: None, value: Value::Table(table) };
                node(Value::List(vec![item]))
            }
            (Type::TableOr(keys, _), DeValue::Table(table)) => {
                node(Value::Table(self.table(path, keys, table, span)))
            }
            (Type::TableOr(_, other), _) => self.value(path, other, value),
            (Type::List { of, max }, DeValue::Array(items)) => {
                self.bounded(path, items.len(), *max, &place)?;
                let list = items.iter().filter_map(|item| self.value(path, of, item)).collect();
                node(Value::List(list))
            }
            (Type::Map { of, max }, DeValue::Table(table)) => {
                self.bounded(path, table.len(), *max, &place)?;
                node(Value::Table(self.map(path, of, table, span)))
            }
            _ => self.scalar(path, ty, value),
        }
    }

    fn object(
        &mut self,
        path: &str,
        keys: &'static [Key],
        item: &Spanned<DeValue<'_>>,
    ) -> Option<Node> {
        let place = self.place(item.span());
        let DeValue::Table(table) = item.get_ref() else {
            self.wrong_type(path, &Type::Table(keys), item);
            return None;
        };
        let table = self.table(path, keys, table, item.span());
        Some(Node { place, raw: None, value: Value::Table(table) })
    }

    fn map(&mut self, path: &str, of: &Type, table: &DeTable<'_>, span: Range<usize>) -> Table {
        let mut entries = BTreeMap::new();
        for (name, value) in table {
            let text = name.get_ref().as_ref();
            let key = self.place(name.span());
            if let Err(error) = RegionName::try_from(text) {
                let message = format!("this key of `{path}` cannot be used: {error}");
                self.out.push(Diagnostic::error(Code::BadName, key, message));
                continue;
            }
            if names_a_secret(text) && !matches!(of, Type::TableOr(..)) {
                self.secrets.push(value.span());
            }
            if let Some(node) = self.value(&join(path, text), of, value) {
                entries.insert(text.to_owned(), Entry { key, node });
            }
        }
        Table { place: self.place(span), entries }
    }

    fn bounded(&mut self, path: &str, len: usize, max: usize, place: &Place) -> Option<()> {
        if len <= max {
            return Some(());
        }
        let message = format!("`{path}` has {len} entries, at most {max} are allowed");
        self.out.push(Diagnostic::error(Code::OutOfRange, place.clone(), message));
        None
    }

    fn wrong_type(&mut self, path: &str, ty: &Type, value: &Spanned<DeValue<'_>>) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let place = self.place(value.span());
        let message = format!("`{path}` cannot be {found}");
        let mut diagnostic =
            Diagnostic::error(Code::WrongType, place, message).label(ty.expected());
        if let (Type::Duration { .. } | Type::Size { .. }, DeValue::Integer(number)) =
            (ty, value.get_ref())
        {
            let unit = if matches!(ty, Type::Size { .. }) { "B" } else { "s" };
            diagnostic = diagnostic.help(format!("give the unit: \"{}{unit}\"", number.as_str()));
        }
        self.out.push(diagnostic);
    }

    fn scalar(&mut self, path: &str, ty: &Type, value: &Spanned<DeValue<'_>>) -> Option<Node> {
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
                let value = self.from_text(path, ty, &text, &place)?;
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

    fn from_text(&mut self, path: &str, ty: &Type, text: &Text, place: &Place) -> Option<Value> {
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
        match number {
            Some(number) if (min..=max).contains(&number) => Some(Value::Integer(number)),
            _ => {
                let message = format!("`{path}` is not a number that is possible here");
                let diagnostic = Diagnostic::error(Code::OutOfRange, place.clone(), message);
                self.out.push(diagnostic.label(ty.expected()));
                None
            }
        }
    }

    fn number(&mut self, path: &str, ty: &Type, text: &str, place: &Place) -> Option<Value> {
        let Type::Number { min, max } = ty else { return None };
        match text.replace('_', "").parse::<f64>() {
            Ok(number) if (*min..=*max).contains(&number) => Some(Value::Number(number)),
            _ => {
                let message = format!("`{path}` is not a number that is possible here");
                let diagnostic = Diagnostic::error(Code::OutOfRange, place.clone(), message);
                self.out.push(diagnostic.label(ty.expected()));
                None
            }
        }
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
                if text.text.contains('@') {
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

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn described(path: &str) -> String {
    match path {
        "" => "the top level".to_owned(),
        "region" | "backend" | "head" | "model" | "key" => format!("[[{path}]]"),
        _ => format!("[{path}]"),
    }
}

/// Where a key of this name does exist.
fn elsewhere(name: &str) -> Option<String> {
    let mut places: Vec<String> = Vec::new();
    keys::each(&mut |path, key, _| {
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        if (key.name == name || key.former.contains(&name))
            && key.name.len() > 2
            && places.len() < 3
        {
            places.push(format!("`{}` in {}", key.name, described(parent)));
        }
    });
    (!places.is_empty()).then(|| format!("there is {}", places.join(", ")))
}
