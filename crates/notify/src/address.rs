//! Which addresses messages may go to. A configuration is written by users; without a check it would let them reach what
//! only the cluster can: metadata services, databases, the cluster itself.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

/// The longest URL.
const URL_CHARS_MAX: usize = 2_048;
/// The longest wait for a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name that are looked at.
const ADDRESSES_MAX: usize = 32;

/// What is no place on the public internet, by RFC 6890 and its followers.
const SPECIAL_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// Of 2000::/3, the only public part, what is special.
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];
/// Addresses that a NAT64 gateway turns into those of their last four bytes.
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// A network, such as `10.1.0.0/16`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    base: IpAddr,
    bits: u8,
}

/// A text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network; write 10.1.0.0/16, or one address")]
pub struct NotANet(String);

impl FromStr for Net {
    type Err = NotANet;

    fn from_str(text: &str) -> Result<Self, NotANet> {
        let wrong = || NotANet(text.to_owned());
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let base: IpAddr = base.trim().parse().map_err(|_| wrong())?;
        let all = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        if bits > all { Err(wrong()) } else { Ok(Self { base, bits }) }
    }
}

impl Net {
    fn holds(self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => v4_within(address, (base, self.bits)),
            (IpAddr::V6(base), IpAddr::V6(address)) => v6_within(address, (base, self.bits)),
            _ => false,
        }
    }
}

fn v4_within(address: Ipv4Addr, (base, bits): (Ipv4Addr, u8)) -> bool {
    let shift = 32 - u32::from(bits);
    u32::from(address).checked_shr(shift) == u32::from(base).checked_shr(shift)
}

fn v6_within(address: Ipv6Addr, (base, bits): (Ipv6Addr, u8)) -> bool {
    let shift = 128 - u32::from(bits);
    u128::from(address).checked_shr(shift) == u128::from(base).checked_shr(shift)
}

/// The address that a packet really goes to.
fn real(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None if v6_within(v6, NAT64) => {
                let [.., a, b, c, d] = v6.octets();
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|net| v4_within(v4, *net)),
        IpAddr::V6(v6) => {
            v6_within(v6, (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3))
                && !SPECIAL_V6.iter().any(|net| v6_within(v6, *net))
        }
    }
}

/// Where messages may go: the public internet, and the networks that an operator named.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    private: Vec<Net>,
}

/// Addresses that were checked; the only ones to connect to.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) addresses: Vec<SocketAddr>,
    /// All of them are in networks that the operator named.
    pub(crate) private: bool,
}

/// Why nothing is sent there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It will not be better later.
    Forbidden(String),
    /// It may be.
    Unresolved(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(why) | Self::Unresolved(why) => f.write_str(why),
        }
    }
}

impl Policy {
    /// The public internet, and these networks.
    ///
    /// # Errors
    /// With the first text that is no network.
    pub fn new(private: &[String]) -> Result<Self, NotANet> {
        Ok(Self { private: private.iter().map(|net| net.parse()).collect::<Result<_, _>>()? })
    }

    /// Resolves a host once and checks every address; one bad address refuses all: which one is used is not ours to
    /// choose.
    pub(crate) async fn resolve(&self, host: &str, port: u16) -> Result<Checked, Refusal> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let unresolved = |why: &str| Refusal::Unresolved(format!("the host `{host}` {why}"));
        let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port))).await;
        let found = found.map_err(|_| unresolved("was not resolved in time"))?;
        let addresses: Vec<_> = found.map_err(|_| unresolved("cannot be resolved"))?.take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            return Err(unresolved("has no address"));
        }
        let mut private = true;
        for address in &addresses {
            let named = self.names(address.ip());
            private &= named;
            if !named && !is_public(real(address.ip())) {
                let why = format!(
                    "the host `{host}` is not on the public internet; an operator may allow its network by \
                     notification_networks"
                );
                return Err(Refusal::Forbidden(why));
            }
        }
        Ok(Checked { addresses, private })
    }

    fn names(&self, address: IpAddr) -> bool {
        self.private.iter().any(|net| net.holds(real(address)) || net.holds(address))
    }
}

/// Whether a URL is one that messages can be posted to.
///
/// # Errors
/// What is wrong with it, without the URL itself: it may be a secret.
pub(crate) fn check_url(text: &str) -> Result<(), String> {
    if text.chars().count() > URL_CHARS_MAX {
        return Err(format!("must have at most {URL_CHARS_MAX} characters"));
    }
    let Ok(url) = reqwest::Url::parse(text) else {
        return Err("must be a URL such as https://host/path".to_owned());
    };
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none_or(str::is_empty) {
        return Err("must begin with https://, and name a host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no user and no password; use a header".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("93.184.216.34", true),
            ("2606:4700::1111", true),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("10.255.0.1", false),
            ("172.31.0.1", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::a9fe:a9fe", false),
            ("64:ff9b::808:808", true),
            ("::127.0.0.1", false),
            ("2002:7f00:1::", false),
            ("2001:0:53aa::", false),
        ] {
            assert_eq!(is_public(real(address.parse().unwrap())), public, "{address}");
        }
    }

    #[tokio::test]
    async fn names_and_literals_are_checked_alike_and_operators_may_allow_networks() {
        let open = Policy::default();
        for host in ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "[::ffff:7f00:1]"] {
            // Odd spellings are either refused as forbidden or are no addresses at all.
            assert!(open.resolve(host, 80).await.is_err(), "{host}");
        }
        assert!(matches!(open.resolve("localhost", 80).await, Err(Refusal::Forbidden(_))));
        let allowed = Policy::new(&["127.0.0.0/8".into(), "::1".into()]).unwrap();
        assert!(allowed.resolve("localhost", 80).await.unwrap().private);
        assert!(Policy::new(&["10.0.0.0/33".into()]).is_err());
        assert!("0.0.0.0/0".parse::<Net>().unwrap().holds("9.9.9.9".parse().unwrap()));
    }
}
