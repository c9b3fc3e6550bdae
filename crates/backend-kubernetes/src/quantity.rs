//! Kubernetes' quantities as integers. Refuses what no device or node would say: negative amounts and nonsense are nothing.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Billionths are the least that Kubernetes knows.
const UNIT: u128 = 1_000_000_000;
const MILLI: u128 = UNIT / 1_000;
/// Suffixes and how many billionths one of them is.
const SUFFIXES: [(&str, u128); 16] = [
    ("Ki", UNIT << 10),
    ("Mi", UNIT << 20),
    ("Gi", UNIT << 30),
    ("Ti", UNIT << 40),
    ("Pi", UNIT << 50),
    ("Ei", UNIT << 60),
    ("n", 1),
    ("u", 1_000),
    ("m", MILLI),
    ("k", UNIT * 1_000),
    ("M", UNIT * 1_000_000),
    ("G", UNIT * 1_000_000_000),
    ("T", UNIT * 1_000_000_000_000),
    ("P", UNIT * 1_000_000_000_000_000),
    ("E", UNIT * 1_000_000_000_000_000_000),
    ("", UNIT),
];

/// Thousandths of a unit, rounded up; 0 for what cannot be read.
#[must_use]
pub fn milli(quantity: &Quantity) -> u64 {
    milli_of(quantity).unwrap_or(0)
}

/// The same; `None` for what cannot be read.
#[must_use]
pub fn milli_of(quantity: &Quantity) -> Option<u64> {
    u64::try_from(read(&quantity.0)?.div_ceil(MILLI)).ok()
}

/// Whole units, such as bytes, rounded up; 0 for what cannot be read.
#[must_use]
pub fn units(quantity: &Quantity) -> u64 {
    read(&quantity.0).and_then(|nano| u64::try_from(nano.div_ceil(UNIT)).ok()).unwrap_or(0)
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
        assert_eq!(milli(&Quantity("1500001n".into())), 2, "as metrics are told");
        assert_eq!(milli(&Quantity("1500u".into())), 2);
        assert_eq!(milli_of(&Quantity("some".into())), None);
    }
}
