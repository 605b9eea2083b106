//! Proxies before this server whose word counts: they end TLS, know whom they let in, and say who asks.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;
use llm_core::{Error, Result};

use crate::Config;
use crate::asked::Asked;

/// A longer name is nobody's.
const LONGEST_NAME: usize = 128;

/// A request whose connection comes from such a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IsTrusted(pub(crate) bool);

/// Where they are, and in which header they name whom they let in. A proxy that sets none passes on what its client says
/// there, so none is believed that the configuration does not name.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    networks: Vec<IpNet>,
    user: Option<HeaderName>,
}

impl Proxies {
    /// From addresses (`10.0.0.1`) and networks (`10.0.0.0/8`), and the name of a header.
    ///
    /// # Errors
    /// `Config`, for what is none of these.
    pub(crate) fn of(config: &Config) -> Result<Proxies> {
        let network = |text: &String| {
            let wrong = || Error::config(format!("{text:?} is no address and no network: 10.0.0.1, 10.0.0.0/8"));
            text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| wrong())
        };
        let networks: Result<_> = config.trusted_proxies.iter().map(network).collect();
        let header = |name: &String| {
            let wrong = |_| Error::config(format!("{name:?} is no name of a header: x-forwarded-user"));
            name.parse::<HeaderName>().map_err(wrong)
        };
        let user = config.trusted_user_header.as_ref().map(header).transpose();
        Ok(Proxies {
            networks: networks.map_err(|e| e.at("trusted_proxies"))?,
            user: user.map_err(|e| e.at("trusted_user_header"))?,
        })
    }

    /// The header in which they name whom they let in, if they do.
    pub(crate) fn user_header(&self) -> Option<&str> {
        self.user.as_ref().map(HeaderName::as_str)
    }

    /// Whether this is one of them.
    pub(crate) fn trust(&self, peer: IpAddr) -> IsTrusted {
        let peer = peer.to_canonical(); // a socket for both families shows IPv4 as IPv6
        IsTrusted(self.networks.iter().any(|network| network.contains(&peer)))
    }

    /// Whom a proxy let in, by name where the configuration says which header tells it; else the address that asked it.
    pub(crate) fn caller(&self, asked: &Asked<'_>) -> Option<Arc<str>> {
        let is_name = |name: &&str| name.len() <= LONGEST_NAME && name.bytes().all(|byte| byte.is_ascii_graphic());
        let named = asked.user().filter(is_name).map(Arc::from);
        named.or_else(|| Some(self.client(asked.forwarded_for())?.to_string().into()))
    }

    /// The last address of the way that is none of theirs: whatever stands before it, anybody can have written.
    fn client<'a>(&self, way: impl DoubleEndedIterator<Item = &'a str>) -> Option<IpAddr> {
        let mut first = None;
        for place in way.rev().flat_map(|line| line.rsplit(',')) {
            let place = place.trim();
            let address = place.parse().or_else(|_| place.parse::<SocketAddr>().map(|a| a.ip()));
            let Ok(address) = address else { break };
            first = Some(address);
            if self.trust(address) == IsTrusted(false) {
                break;
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(listed: &[&str], header: Option<&str>) -> Result<Proxies> {
        let trusted_proxies = listed.iter().map(|&one| one.to_owned()).collect();
        Proxies::of(&Config { trusted_proxies, trusted_user_header: header.map(str::to_owned), ..Config::default() })
    }

    fn proxies() -> Proxies {
        of(&["10.0.0.0/8", "127.0.0.1", "fd00::/8"], None).unwrap()
    }

    fn called(proxies: &Proxies, lines: &[(&'static str, &'static str)]) -> Option<String> {
        let lines = lines.iter().map(|(name, value)| (*name, value.as_bytes()));
        proxies.caller(&Asked::read(proxies.user_header(), lines)).map(|name| name.to_string())
    }

    fn caller(lines: &[(&'static str, &'static str)]) -> Option<String> {
        called(&proxies(), lines)
    }

    #[test]
    fn they_are_known_by_address_or_network_in_either_family() {
        for (peer, is_trusted) in [
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("10.9.8.7", true),
            ("::ffff:10.9.8.7", true),
            ("fd00::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(proxies().trust(peer.parse().unwrap()), IsTrusted(is_trusted), "{peer}");
        }
        assert_eq!(Proxies::default().trust("127.0.0.1".parse().unwrap()), IsTrusted(false));
        let error = of(&["nginx"], None).unwrap_err().to_string();
        assert!(error.starts_with("trusted_proxies: \"nginx\" is no address"), "{error}");
    }

    #[test]
    fn they_name_the_caller_or_his_address_and_what_stands_before_it_is_anybodys() {
        for (way, client) in [
            ("203.0.113.9", Some("203.0.113.9")),
            ("evil, 1.2.3.4, 203.0.113.9, 10.0.0.2", Some("203.0.113.9")),
            ("1.2.3.4,2001:db8::1", Some("2001:db8::1")),
            ("203.0.113.9:5123", Some("203.0.113.9")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("10.0.0.3, 10.0.0.2", Some("10.0.0.3")),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(caller(&[("X-Forwarded-For", way)]).as_deref(), client, "{way}");
        }
        assert_eq!(caller(&[]), None);
        // Some proxies add a line of their own, and all lines are one list.
        let lines = [("x-forwarded-for", "evil, 203.0.113.9"), ("X-Forwarded-For", "10.0.0.2")];
        assert_eq!(caller(&lines).as_deref(), Some("203.0.113.9"));
        let hidden = [&b"1.2.3.4"[..], b"\xff, 203.0.113.9"].map(|value| ("x-forwarded-for", value));
        assert_eq!(
            proxies().caller(&Asked::read(None, hidden.into_iter())),
            None,
            "a forged line before an unreadable one"
        );
    }

    #[test]
    fn a_name_is_believed_in_the_header_that_the_configuration_names_and_in_no_other() {
        let naming = of(&["10.0.0.0/8"], Some("X-Forwarded-User")).unwrap();
        let both = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-USER", "alice@example.com")];
        assert_eq!(called(&naming, &both).as_deref(), Some("alice@example.com"));
        assert_eq!(called(&naming, &[both[0], ("x-forwarded-user", "a b")]).as_deref(), Some("203.0.113.9"));
        assert_eq!(called(&naming, &[both[0], ("x-auth-request-user", "bob")]).as_deref(), Some("203.0.113.9"));
        assert_eq!(caller(&both).as_deref(), Some("203.0.113.9"), "a client can have written that behind any proxy");
        for wrong in ["", "a b", "x:y"] {
            let error = of(&[], Some(wrong)).unwrap_err().to_string();
            assert!(error.starts_with("trusted_user_header: ") && error.contains("is no name of a header"), "{error}");
        }
    }
}
