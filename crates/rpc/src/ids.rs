//! Identifiers on the wire: 16 bytes between the services, text in the public API.

use crate::status::Problem;
use uuid::Uuid;

/// The identifier in 16 bytes of the field `field`.
///
/// # Errors
/// Any other number of bytes.
pub fn uuid(bytes: &[u8], field: &str) -> Result<Uuid, Problem> {
    Uuid::from_slice(bytes).map_err(|_| Problem::invalid(field, format!("must be 16 bytes, not {}", bytes.len())))
}

/// The identifier in the text of the field `field`, as a typed id or a `Uuid`.
///
/// # Errors
/// Anything that is not an identifier, the empty text included.
pub fn parse<T: std::str::FromStr>(text: &str, field: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|_| Problem::invalid(field, "must be an identifier such as 0190a5b8-7c1e-7d3a-9d52-3f1c8a2b6e4d"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::RunId;

    #[test]
    fn both_forms_come_back() {
        let id = RunId::new_in(0);
        assert_eq!(uuid(&id.to_vec(), "run_id"), Ok(id.0));
        assert_eq!(parse::<RunId>(&id.to_string(), "run_id"), Ok(id));
    }

    #[test]
    fn the_field_is_named() {
        assert_eq!(uuid(b"short", "run_id").unwrap_err().violations[0].field, "run_id");
        assert_eq!(parse::<RunId>("", "run").unwrap_err().violations[0].field, "run");
    }
}
