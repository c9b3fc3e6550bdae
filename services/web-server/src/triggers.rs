//! Triggers as the public API has them: what comes in is checked and becomes a definition, what goes out is one. Refuses
//! to fire any.

pub(crate) mod read;
pub(crate) mod start;
pub(crate) mod token;
pub(crate) mod write;

use crate::core::Core;
use crate::fault::Fault;
use domain::{
    ErrorKind,
    id::TriggerId,
    trigger::{Invalid, Kind, Spec},
};
use serde_json::Value;
use store::triggers::{self, Definition, Listed};

/// The trigger of this id.
pub(crate) async fn find(core: &Core, id: TriggerId) -> Result<Listed, Fault> {
    let db = core.store.client().await?;
    triggers::get(&db, id).await?.ok_or_else(|| none(id))
}

/// There is no such trigger.
pub(crate) fn none(id: TriggerId) -> Fault {
    let message = format!("there is no trigger `{id}`; list the triggers of its workspace to find it");
    Fault::new(ErrorKind::NotFound, "TRIGGER_NOT_FOUND", message)
}

/// Refuses to change the trigger that every pipeline has.
pub(crate) fn refuse_built_in(listed: &Listed) -> Result<(), Fault> {
    if listed.trigger.spec.kind != Kind::Manual {
        return Ok(());
    }
    let message = format!("trigger `{}` is built in and stays as it is; create another one", listed.trigger.name);
    Err(Fault::new(ErrorKind::FailedPrecondition, "TRIGGER_BUILT_IN", message))
}

/// A definition with its form in the database.
pub(crate) struct Checked {
    spec: Spec,
    document: Value,
}

impl Checked {
    /// Checks a definition.
    pub(crate) fn of(spec: Spec) -> Result<Self, Fault> {
        spec.check().map_err(|invalid| refuse(&invalid))?;
        let document = serde_json::to_value(&spec).map_err(|e| Fault::internal(&e))?;
        Ok(Self { spec, document })
    }

    /// As the store takes it.
    pub(crate) fn definition(&self) -> Definition<'_> {
        Definition { spec: &self.spec, document: &self.document }
    }
}

/// What is wrong with a definition, as the field of a request.
pub(crate) fn refuse(invalid: &Invalid) -> Fault {
    let field = match invalid.field.as_str() {
        "schedule" => "spec.schedule.every".to_owned(),
        field @ ("time_zone" | "start_time" | "end_time") => format!("spec.schedule.{field}"),
        "name" => "name".to_owned(),
        field => format!("spec.{field}"),
    };
    Fault::field(field, invalid.to_string())
}
