//! The environment's proxies: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, for every host that says nothing else.
//!
//! They are read while configuring and become the setting `proxy` of a deployment, so that the library itself looks at
//! no process's environment, and `llm config` shows them.
use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

use super::config::{Config, DeploymentConfig};
use super::lookup::{Env, Found};
use super::variables::Variable;
use crate::error::Result;
use crate::provider::hosts;

/// For hosts with https. Curl and others read the names in lower case too, and so do we.
const HTTPS: Variable =
    Variable::new("HTTPS_PROXY", "the proxy for hosts with https: http://user:password@host:3128", "");
/// For hosts with http.
const HTTP: Variable = Variable::new("HTTP_PROXY", "the proxy for hosts with http", "");
/// For hosts of both kinds.
const ALL: Variable =
    Variable::new("ALL_PROXY", "the proxy for hosts of both kinds, where the other two say nothing", "");
/// For those that are reached without.
const NONE: Variable = Variable::new(
    "NO_PROXY",
    "hosts that are reached without one: names, .domains, addresses and * for all, with commas between; this machine always is",
    "",
);

/// All of them.
pub(super) const VARIABLES: &[Variable] = &[HTTPS, HTTP, ALL, NONE];

impl Config {
    /// Gives every host that names no proxy the one of the environment.
    pub(super) fn with_proxies(mut self, env: &Env<'_>) -> Result<Config> {
        let get = |variable: &Variable| env.get(&[variable.name.to_lowercase(), variable.name.to_string()]);
        let (https, http, all, none) = (get(&HTTPS)?, get(&HTTP)?, get(&ALL)?, get(&NONE)?);
        let none = none.map(|found| found.value).unwrap_or_default();
        for (name, model) in &mut self.models {
            let many = model.deployments.len() > 1;
            for (i, deployment) in model.deployments.iter_mut().enumerate() {
                let Some(url) = host_of(deployment).filter(|url| !is_excepted(url, &none)) else { continue };
                let proxy = if url.scheme_str() == Some("https") { &https } else { &http };
                let Some(Found { value, variable }) = proxy.as_ref().or(all.as_ref()) else { continue };
                deployment.settings.insert("proxy".into(), value.clone().into());
                let place = if many && i > 0 { format!("deployments.{i}.proxy") } else { "proxy".to_owned() };
                self.origins.note(format!("models.{name}.{place}"), variable.clone());
            }
        }
        Ok(self)
    }
}

/// Where a deployment is, if it is at a host and says nothing of proxies.
fn host_of(deployment: &DeploymentConfig) -> Option<Uri> {
    let host = hosts::find(&deployment.provider).filter(|_| !deployment.settings.contains_key("proxy"))?;
    let url = deployment.settings.get("base_url").and_then(|url| url.as_str()).or(host.base_url)?;
    url.parse().ok()
}

/// This machine, and whatever the list names.
fn is_excepted(url: &Uri, list: &str) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    let is_here = host == "localhost" || address.is_some_and(|ip| ip.is_loopback());
    let matches = |name: &str| {
        if let (Some(address), Ok(network)) = (address, name.parse::<IpNet>()) {
            return network.contains(&address);
        }
        let (name, port) = name.rsplit_once(':').filter(|(name, _)| !name.contains(':')).unwrap_or((name, ""));
        let domain = name.trim_start_matches("*.").trim_start_matches('.').to_lowercase();
        let is_it = name == "*" || host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'));
        is_it && !name.is_empty() && (port.is_empty() || url.port_u16().is_some_and(|p| p.to_string() == port))
    };
    is_here || list.split(',').map(str::trim).any(matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_may_be_excepted() {
        let is_excepted = |url: &str, list: &str| is_excepted(&url.parse().unwrap(), list);
        assert!(
            is_excepted("http://10.1.2.3:8000", "gpu, 10.0.0.0/8") && !is_excepted("http://11.1.2.3", "10.0.0.0/8")
        );
        assert!(is_excepted("http://[fd12::1]:8000", "fd00::/8") && !is_excepted("http://gpu", "0.0.0.0/0"));
        assert!(!is_excepted("http://10.1.2.3", "10.0.0.0/4294967295,10.0.0.0/33"));
    }

    /// The proxy of a host, under these variables.
    fn proxy(vars: &[(&str, &str)], url: &str) -> Option<String> {
        let lookup = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let config = Config::from_toml(&format!("[models.a]\nprovider = 'vllm'\nbase_url = '{url}'")).unwrap();
        let config = config.with_env(&lookup).unwrap();
        config.models["a"].deployments[0].settings.get("proxy").map(|value| value.as_str().unwrap().to_owned())
    }

    #[test]
    fn the_proxy_of_the_environment_is_for_hosts_of_its_kind() {
        let vars = [("HTTPS_PROXY", "http://s"), ("http_proxy", "http://p")];
        assert_eq!(proxy(&vars, "https://gpu").as_deref(), Some("http://s"));
        assert_eq!(proxy(&vars, "http://gpu").as_deref(), Some("http://p"));
        assert_eq!(proxy(&[("ALL_PROXY", "http://a")], "http://gpu").as_deref(), Some("http://a"));
    }

    #[test]
    fn this_machine_and_what_no_proxy_names_are_reached_without() {
        let vars = [("HTTP_PROXY", "http://p"), ("NO_PROXY", "gpu, .corp.example,10.0.0.1:8000")];
        for url in [
            "http://localhost:8000",
            "http://127.0.0.2",
            "http://[::1]:1",
            "http://GPU:1",
            "http://a.corp.example",
            "http://10.0.0.1:8000",
        ] {
            assert_eq!(proxy(&vars, url), None, "{url}");
        }
        for url in ["http://mygpu", "http://corp.example.org", "http://10.0.0.1:8001"] {
            assert!(proxy(&vars, url).is_some(), "{url}");
        }
        assert_eq!(proxy(&[("HTTP_PROXY", "http://p"), ("NO_PROXY", "*")], "http://gpu"), None);
    }

    #[test]
    fn a_deployment_that_says_what_it_wants_gets_that() {
        let text =
            "[models.a]\nprovider = 'vllm'\nbase_url = 'http://gpu'\nproxy = 'off'\n[models.b]\nprovider = 'fake'";
        let config = Config::from_toml(text).unwrap();
        let config = config.with_env(&|name| (name == "HTTP_PROXY").then(|| "http://p".into())).unwrap();
        assert_eq!(config.models["a"].deployments[0].settings["proxy"].as_str(), Some("off"));
        assert!(config.models["b"].deployments[0].settings.is_empty(), "the fake has no host");
        crate::gateway::Gateway::new(&config).unwrap();
    }
}
