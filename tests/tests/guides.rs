//! The guides name everything there is: providers, policies, routes and metrics, as the program itself lists them.
use llm_core::Operation;
use llm_core::dialect::DIALECTS;
use llm_core::policy::POLICIES;
use llm_core::provider::http::Host;
use llm_core::provider::{PROVIDERS, hosts::HOSTS};
use llm_tests::house::House;
use llm_tests::http;

fn guide(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../docs/{name}.md", env!("CARGO_MANIFEST_DIR"))).expect("the guide is there")
}

#[test]
fn every_provider_and_policy_is_in_the_guide_to_the_configuration() {
    let guide = guide("configuration");
    for name in PROVIDERS.iter().map(|p| p.name).chain(POLICIES.iter().map(|p| p.name)) {
        assert!(guide.contains(&format!("| `{name}` |")), "{name} is missing");
    }
}

#[test]
fn the_file_of_the_guide_is_a_configuration() {
    let guide = guide("configuration");
    let toml = guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let mut table: toml::Table = toml.parse().unwrap();
    llm_server::Config::take(&mut table).unwrap();
    let config = llm_core::Config::from_table(table).unwrap();
    llm_core::Gateway::with(&config, &[llm_engine::KIND], std::sync::Arc::new(())).unwrap();
}

#[test]
fn every_route_and_metric_is_in_the_guide_to_the_server() {
    let guide = guide("server");
    for (_, path) in DIALECTS.iter().flat_map(|d| d.doors()) {
        assert!(guide.contains(path), "{path} is missing");
    }
    let house = House::of("[models.fake]\nprovider = 'fake'");
    let (_, metrics) = http::get(&format!("{}/metrics", house.url()));
    let names: Vec<_> = metrics.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(names.len() >= 3, "{metrics}");
    for name in names {
        assert!(guide.contains(name), "{name} is missing");
    }
}

#[test]
fn every_kind_of_error_is_in_the_guide_to_them_as_it_behaves() {
    use llm_core::Kind;
    let guide = guide("errors");
    assert_eq!(
        guide.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 7).count(),
        Kind::ALL.len()
    );
    for kind in Kind::ALL {
        let is_its = |line: &&str| line.starts_with(&format!("| `{}` |", kind.name()));
        let row = guide.lines().find(is_its).unwrap_or_else(|| panic!("{} is missing", kind.name()));
        let cell = |n: usize| row.split('|').nth(n).expect("a cell").trim();
        let word = |yes: bool| if yes { "yes" } else { "no" };
        // A loading model is waited for, not asked again and again.
        assert_eq!(
            (cell(3), cell(4)),
            (word(kind.is_retryable() && kind != Kind::Loading), word(kind.is_failover())),
            "{row}"
        );
    }
}

#[test]
fn the_guide_to_the_providers_has_the_table_of_hosts() {
    let path = format!("{}/../docs/providers.md", env!("CARGO_MANIFEST_DIR"));
    let text = guide("providers");
    let (before, rest) = text.split_once("<!-- hosts: written by the test, BLESS=1 -->\n").expect("its mark");
    let (_, after) = rest.split_once("<!-- end -->").expect("its other mark");
    let rows: String = HOSTS.iter().map(row).collect();
    let head =
        "| name | what it is | prefix | where it usually is | key | can |\n| --- | --- | --- | --- | --- | --- |\n";
    let written = format!("{before}<!-- hosts: written by the test, BLESS=1 -->\n{head}{rows}<!-- end -->{after}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &written).expect("the guide can be written");
    }
    assert!(guide("providers") == written, "{path} is stale; BLESS=1 writes it anew");
}

fn row(host: &Host) -> String {
    let url = host.base_url.map_or("you say".to_owned(), |url| format!("`{url}`"));
    let key = if host.needs_key { "needed" } else { "if it wants one" };
    let can: Vec<_> = host.operations().iter().filter(|o| *o != Operation::Models).map(Operation::name).collect();
    format!("| `{}` | {} | `{}_` | {url} | {key} | {} |\n", host.name, host.about, host.prefix, can.join(", "))
}

#[test]
fn the_examples_of_the_guide_to_the_providers_are_configurations() {
    let guide = guide("providers");
    let blocks = |fence: &str| {
        let after = guide.split(fence).skip(1).map(|rest| rest.split("```").next().expect("an end").to_owned());
        after.collect::<Vec<_>>()
    };
    for block in blocks("```sh\n") {
        let lookup =
            |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
        let config = llm_core::Config::from_env(&lookup).unwrap();
        llm_core::Gateway::with(&config, &[llm_engine::KIND], std::sync::Arc::new(())).unwrap();
    }
    for block in blocks("```toml\n") {
        let config = llm_core::Config::from_toml(&block).unwrap();
        // The file of its authorities is on no machine but the reader's.
        let error = llm_core::Gateway::new(&config).err().expect("no such file").to_string();
        assert!(error.starts_with("models.coder.ca_file: /etc/ssl/corp-ca.pem cannot be read"), "{error}");
    }
    assert_eq!((blocks("```sh\n").len(), blocks("```toml\n").len()), (3, 1));
}
