//! Whether a definition means something, before it is stored. Refuses to know where it came from.

use super::{
    CATCH_UP_MAX, CatchUp, DESCRIPTION_BYTES_MAX, Invalid, JITTER_S_MAX, Kind, NAME_BYTES_MAX, RUN_LIMIT_MAX,
    SECONDS_MAX, Spec, VARIABLES_BYTES_MAX,
};
use crate::event;

impl Spec {
    /// Whether everything in it is understood and within its bounds.
    ///
    /// # Errors
    /// [`Invalid`] for the first thing that is not.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.description.len() > DESCRIPTION_BYTES_MAX {
            return Err(Invalid::new(format!("must be at most {DESCRIPTION_BYTES_MAX} bytes long")).of("description"));
        }
        if size(&self.variables) > VARIABLES_BYTES_MAX {
            return Err(Invalid::new(format!("must be at most {VARIABLES_BYTES_MAX} bytes of JSON")).of("variables"));
        }
        self.check_bounds()?;
        match &self.kind {
            Kind::Manual | Kind::Api => self.check_unscheduled(),
            Kind::Event { patterns } => {
                event::parse_all(patterns).map_err(|invalid| {
                    let field = format!("event.patterns{}", invalid.field);
                    invalid.of(field)
                })?;
                self.check_unscheduled()
            }
            Kind::Schedule(_) => self.check_schedule(),
        }
    }

    fn check_bounds(&self) -> Result<(), Invalid> {
        within("jitter", self.jitter_s, 0, JITTER_S_MAX)?;
        for (field, value) in [("sla", self.sla_s), ("timeout", self.timeout_s)] {
            within(field, value.unwrap_or(1), 1, SECONDS_MAX)?;
        }
        within("run_limit", self.run_limit.unwrap_or(1), 1, RUN_LIMIT_MAX)?;
        if let CatchUp::All { window_s, count } = self.catch_up {
            within("catch_up.window", window_s, 1, SECONDS_MAX)?;
            within("catch_up.count", count, 1, CATCH_UP_MAX)?;
        }
        self.window.as_ref().map_or(Ok(()), super::Window::check)
    }

    /// What only a schedule can have is not passed over in silence.
    fn check_unscheduled(&self) -> Result<(), Invalid> {
        let set = [
            ("jitter", self.jitter_s > 0),
            ("landing_time", self.landing_time),
            ("create_initial_run", self.create_initial_run),
            ("window", self.window.is_some()),
            ("catch_up", self.catch_up != CatchUp::default()),
        ];
        match set.into_iter().find(|(_, set)| *set) {
            Some((field, _)) => Err(Invalid::new("only means something with a schedule").of(field)),
            None => Ok(()),
        }
    }

    fn check_schedule(&self) -> Result<(), Invalid> {
        let timetable = self.timetable()?;
        if !self.landing_time {
            return Ok(());
        }
        let Some(schedule) = self.schedule().filter(|_| timetable.is_some()) else { return Ok(()) };
        if !["@hourly", "@daily", "@weekly", "@monthly"].contains(&schedule.every.trim()) {
            return Err(Invalid::new("needs a schedule of @hourly, @daily, @weekly or @monthly").of("landing_time"));
        }
        if schedule.start.is_none() {
            return Err(Invalid::new("needs a start time: it says when in its period a run lands").of("landing_time"));
        }
        if self.jitter_s > 0 {
            return Err(Invalid::new("and a landing time exclude each other").of("jitter"));
        }
        // It has bounds too, though it begins nothing.
        schedule.compile().map(drop)
    }
}

/// Whether a trigger may be called so.
///
/// # Errors
/// When the name is empty, too long, or holds control characters.
pub fn check_name(name: &str) -> Result<(), Invalid> {
    if name.trim().is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let rule = format!("must be 1 to {NAME_BYTES_MAX} bytes of text without control characters");
        return Err(Invalid::new(rule).of("name"));
    }
    Ok(())
}

fn within(field: &str, value: u32, least: u32, most: u32) -> Result<(), Invalid> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Invalid::new(format!("must be {least} to {most}, and is {value}")).of(field))
}

fn size(variables: &serde_json::Map<String, serde_json::Value>) -> usize {
    serde_json::to_string(variables).map_or(usize::MAX, |text| text.len())
}
