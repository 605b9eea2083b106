//! The guides name everything there is: providers, policies, routes and metrics, as the program itself lists them.
use llm_core::dialect::DIALECTS;
use llm_core::policy::POLICIES;
use llm_core::provider::PROVIDERS;
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
    for (_, path) in DIALECTS.iter().flat_map(|d| d.paths()) {
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
