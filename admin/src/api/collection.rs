//! The five kinds of objects: where each is in the API, and what the documents say of it.

use serde_json::{Value, json};

use crate::role::Role;
use crate::store::ObjectKind;

/// One kind of objects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Collection {
    pub(crate) kind: ObjectKind,
    /// Its list.
    pub(crate) path: &'static str,
    /// One of them.
    pub(crate) item: &'static str,
    /// Where overrides of it are, if there can be any.
    pub(crate) overrides: Option<(&'static str, Role)>,
    pub(crate) tag: &'static str,
    /// The name of its schema, and what its operation ids end in.
    pub(crate) schema: &'static str,
    pub(crate) plural: &'static str,
    /// In a sentence.
    pub(crate) word: &'static str,
    /// Who may send a merge patch; what an operator may change is checked in addition.
    pub(crate) patch: Role,
}

/// What an operator may change of a backend.
pub(crate) const OPERABLE: [&str; 3] = ["weight", "enabled", "draining"];

/// All kinds.
pub(crate) const COLLECTIONS: [Collection; 5] = [
    Collection {
        kind: ObjectKind::Backend,
        path: "/admin/backends",
        item: "/admin/backends/{id}",
        overrides: Some(("/admin/backends/{id}/override", Role::Operator)),
        tag: "backends",
        schema: "Backend",
        plural: "Backends",
        word: "backend",
        patch: Role::Operator,
    },
    Collection {
        kind: ObjectKind::Model,
        path: "/admin/models",
        item: "/admin/models/{id}",
        overrides: Some(("/admin/models/{id}/override", Role::Admin)),
        tag: "models",
        schema: "Model",
        plural: "Models",
        word: "model",
        patch: Role::Admin,
    },
    Collection {
        kind: ObjectKind::Head,
        path: "/admin/heads",
        item: "/admin/heads/{id}",
        overrides: None,
        tag: "heads",
        schema: "Head",
        plural: "Heads",
        word: "head",
        patch: Role::Admin,
    },
    Collection {
        kind: ObjectKind::Region,
        path: "/admin/regions",
        item: "/admin/regions/{id}",
        overrides: None,
        tag: "regions",
        schema: "Region",
        plural: "Regions",
        word: "region",
        patch: Role::Admin,
    },
    Collection {
        kind: ObjectKind::Key,
        path: "/admin/keys",
        item: "/admin/keys/{id}",
        overrides: None,
        tag: "keys",
        schema: "Key",
        plural: "Keys",
        word: "key",
        patch: Role::Admin,
    },
];

impl Collection {
    /// What a caller might send to make one.
    pub(crate) fn example(&self) -> Value {
        match self.kind {
            ObjectKind::Backend => json!({
                "name": "eu-vllm-1",
                "kind": "vllm",
                "url": "http://10.0.0.4:8000",
                "region": "eu",
                "weight": 2,
                "max_in_flight": 64,
            }),
            ObjectKind::Model => json!({
                "name": "mistral-7b",
                "region": "eu",
                "regions": ["us"],
                "residency": "strict",
                "priority_head": "head-eu",
                "heads": ["head-us"],
                "upstream_model": "mistralai/Mistral-7B-Instruct-v0.3",
            }),
            ObjectKind::Head => {
                json!({"name": "head-eu", "region": "eu", "backends": ["eu-vllm-1"]})
            }
            ObjectKind::Region => json!({"name": "eu", "neighbours": ["us"]}),
            ObjectKind::Key => {
                json!({"name": "team-a", "tenant": "acme", "requests_per_minute": 600})
            }
        }
    }

    /// A patch of the example.
    pub(crate) fn patch_example(&self) -> Value {
        match self.kind {
            ObjectKind::Backend => json!({"weight": 1}),
            ObjectKind::Model => json!({"fallbacks": ["llama3.1"], "residency": null}),
            ObjectKind::Head => json!({"order": "listed"}),
            ObjectKind::Region => json!({"neighbours": ["us", "br"]}),
            ObjectKind::Key => json!({"disabled": true}),
        }
    }

    /// What an override may change.
    pub(crate) const fn overridable(&self) -> &'static [&'static str] {
        match self.kind {
            ObjectKind::Backend => &OPERABLE,
            ObjectKind::Model => &["region", "priority_head", "heads"],
            _ => &[],
        }
    }

    /// An override of the example.
    pub(crate) fn override_example(&self) -> Value {
        match self.kind {
            ObjectKind::Model => json!({"region": "us", "priority_head": "head-us"}),
            _ => json!({"weight": 5}),
        }
    }

    /// An object as it is answered.
    pub(crate) fn answer_example(&self) -> Value {
        let mut example = self.example();
        example["id"] = json!("obj_2f6c1b7e9d0a");
        example["origin"] = json!("stored");
        example["created_at"] = json!("2026-03-01T09:30:00.000Z");
        example["updated_at"] = json!("2026-03-01T09:30:00.000Z");
        example
    }
}
