//! The warehouse stands in a configuration like any vendor.

use analytics_kit::Configuration;
use warehouse::Config;

#[test]
fn a_file_names_the_warehouse() {
    let reader = Configuration::with_vendor::<Config>();
    let configuration = reader
        .read_toml(
            r#"
            [integrations.warehouse]
            url = "https://rows.example.com"
            token = "..."

            [integrations.warehouse-at-home]
            vendor = "warehouse"
            url = { url = "http://rows.internal", allow_http = true }
            token = "..."
            "#,
        )
        .expect("is right");
    let integrations = configuration.integrations().iter();
    let names: Vec<_> = integrations.map(|i| (i.name(), i.vendor())).collect();
    assert_eq!(
        names,
        [
            ("warehouse", "warehouse"),
            ("warehouse-at-home", "warehouse")
        ]
    );
}
