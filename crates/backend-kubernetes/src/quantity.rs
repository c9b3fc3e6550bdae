//! Kubernetes' quantities as integers. Refuses what no device or node would say: negative amounts and nonsense are nothing.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Suffixes and how many thousandths one of them is.
const SUFFIXES: [(&str, u128); 14] = [
    ("Ki", 1024 * 1000),
    ("Mi", 1024 * 1024 * 1000),
    ("Gi", (1 << 30) * 1000),
    ("Ti", (1 << 40) * 1000),
    ("Pi", (1 << 50) * 1000),
    ("Ei", (1 << 60) * 1000),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("", 1000),
];

/// Thousandths of a unit, rounded up; 0 for what cannot be read.
#[must_use]
pub fn milli(quantity: &Quantity) -> u64 {
    read(&quantity.0).and_then(|milli| u64::try_from(milli).ok()).unwrap_or(0)
}

/// Whole units, such as bytes, rounded up; 0 for what cannot be read.
#[must_use]
pub fn units(quantity: &Quantity) -> u64 {
    read(&quantity.0).and_then(|milli| u64::try_from(milli.div_ceil(1000)).ok()).unwrap_or(0)
}

/// Whether it can be read, here and by Kubernetes.
#[must_use]
pub fn is_amount(text: &str) -> bool {
    let suffixed = text.ends_with(|end: char| end.is_ascii_alphabetic());
    let is_both = suffixed && text.trim_end_matches(|end: char| end.is_ascii_alphabetic()).contains(['e', 'E']);
    text.contains(|c: char| c.is_ascii_digit()) && !is_both && read(text).is_some()
}

/// Whole units as Kubernetes writes them.
#[must_use]
pub fn of(units: u64) -> Quantity {
    Quantity(units.to_string())
}

/// Thousandths as Kubernetes writes them.
#[must_use]
pub fn of_milli(milli: u64) -> Quantity {
    Quantity(format!("{milli}m"))
}

fn read(text: &str) -> Option<u128> {
    let (number, scale) = SUFFIXES.iter().find_map(|(suffix, scale)| Some((text.strip_suffix(suffix)?, *scale)))?;
    // `1e3` is written by some clients.
    let (number, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let scale = scale.checked_mul(10_u128.checked_pow(exponent.parse().ok()?)?)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits = u32::try_from(fraction.len()).ok()?;
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let unit = 10_u128.checked_pow(digits)?;
    whole.checked_mul(scale)?.checked_add(part.checked_mul(scale)?.div_ceil(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_means_them() {
        for (text, expected) in [
            ("96Gi", 96 << 30),
            ("100", 100),
            ("500m", 1),
            ("1500m", 2),
            ("1.5Ki", 1536),
            ("2k", 2000),
            ("1e3", 1000),
            ("", 0),
            ("-1", 0),
            ("x", 0),
            ("9e99", 0),
        ] {
            assert_eq!(units(&Quantity(text.into())), expected, "{text}");
        }
        assert_eq!(milli(&Quantity("64".into())), 64_000);
        assert_eq!(milli(&Quantity("250m".into())), 250);
    }
}
