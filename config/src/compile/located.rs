//! What the router says against a spec, at the place in the file that it is about.

use router::snapshot::{BuildError, ObjectKind, ObjectRef};
use router::spec::SnapshotSpec;

use crate::diagnostic::{Code, Diagnostic, Place, Severity};
use crate::load::Loaded;
use crate::tree::Table;

use super::Compiler;

impl Compiler<'_> {
    /// The router has the last word: what it would refuse at the start is refused here, where it can be pointed at.
    pub(super) fn unbuildable(&mut self, spec: &SnapshotSpec) {
        // What is already known to be wrong would only be said twice.
        if self.out.iter().any(|known| known.severity == Severity::Error) {
            return;
        }
        for error in spec.errors() {
            self.out.push(diagnostic(self.tree, error));
        }
    }
}

impl Loaded {
    /// A warning about what a backend was found to be, at its address.
    #[must_use]
    pub fn unwell(&self, backend: &str, message: String) -> Diagnostic {
        let mut backends = self.tree.tables("backend");
        let found = backends.find(|table| table.text("name") == Some(backend));
        let place = found.map_or_else(|| self.tree.place_of("backend"), |t| t.place_of("url"));
        Diagnostic::warning(Code::Unwell, place, message)
    }
}

fn diagnostic(tree: &Table, error: BuildError) -> Diagnostic {
    let place = place(tree, &error.object);
    let diagnostic = Diagnostic::error(Code::Conflict, place, error.message);
    match error.suggestion {
        Some(near) => diagnostic.help(format!("did you mean {near:?}?")),
        None => diagnostic,
    }
}

fn place(tree: &Table, object: &ObjectRef) -> Place {
    if object.kind == ObjectKind::Root {
        return match object.key.split_once('.') {
            Some((section, key)) => {
                tree.table(section).map_or_else(|| tree.place_of(section), |t| t.place_of(key))
            }
            None => tree.place_of(object.key),
        };
    }
    let kind = object.kind.as_str();
    let named = |table: &&Table| table.text("name") == Some(object.name.as_str());
    let table = tree.tables(kind).nth(object.place).filter(named);
    let Some(table) = table.or_else(|| tree.tables(kind).find(named)) else {
        return tree.place_of(kind);
    };
    let listed = object.index.and_then(|index| table.list(object.key).get(index));
    listed.map_or_else(|| table.place_of(object.key), |node| node.place.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::load_text;

    fn error(kind: ObjectKind, name: &str, key: &'static str, index: Option<usize>) -> BuildError {
        let object = ObjectRef { kind, name: name.to_owned(), place: 1, key, index };
        BuildError { object, message: "wrong".to_owned(), suggestion: Some("right".to_owned()) }
    }

    #[test]
    fn an_error_of_the_router_is_shown_at_its_place() {
        let text = "version = 1\ndefault_region = \"eu\"\n\
                    [[backend]]\nname = \"a\"\nkind = \"vllm\"\nurl = \"http://a\"\n\
                    [[backend]]\nname = \"b\"\nkind = \"vllm\"\nurl = \"http://b\"\nweight = 2\n\
                    [[head]]\nname = \"h\"\nregion = \"eu\"\nbackends = [\"a\", \"b\"]\n";
        let env = crate::environment::ProcessEnvironment;
        let loaded = load_text("f.toml", text, std::path::Path::new(""), &env).unwrap();
        let at = |error| {
            let diagnostic = diagnostic(&loaded.tree, error);
            assert_eq!(diagnostic.help.as_deref(), Some("did you mean \"right\"?"));
            let place = diagnostic.place.unwrap();
            loaded.sources[place.source].position(place.span.start)
        };
        assert_eq!(at(error(ObjectKind::Backend, "b", "weight", None)), (11, 10));
        assert_eq!(at(error(ObjectKind::Head, "h", "backends", Some(1))), (15, 18));
        assert_eq!(at(error(ObjectKind::Backend, "a", "weight", None)), (3, 1));
        assert_eq!(at(error(ObjectKind::Root, "", "default_region", None)), (2, 18));
    }
}
