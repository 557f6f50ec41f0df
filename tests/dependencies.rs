//! Every dependency has a licence that `deny.toml` allows and comes from the registry.
//!
//! The same rules as `cargo deny check licenses sources`, read from the same file, with nothing but
//! cargo. Advisories need a database from the net and are left to `cargo deny`.

use std::path::Path;
use std::process::Command;

/// The allowed licences, as listed in `deny.toml`.
fn allowed() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    let text = std::fs::read_to_string(path).expect("deny.toml stands in the root");
    let list = text.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']'));
    let list = list.expect("deny.toml lists the licences").0;
    let found: Vec<_> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(found.contains(&"MIT".to_owned()), "the list of licences was not found");
    found
}

/// Whether an SPDX expression can be met with the allowed licences: `OR` binds weaker than `AND`.
fn met(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.trim();
    let whole = |text: &str| {
        let mut depth = 0_i32;
        text.starts_with('(')
            && text.char_indices().all(|(at, c)| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth > 0 || at == text.len() - 1
            })
    };
    if whole(expression) {
        return met(&expression[1..expression.len() - 1], allowed);
    }
    // Old manifests write a slash for `OR`.
    let any = [" OR ", "/"].iter().map(|or| outside_brackets(expression, or)).find(|p| p.len() > 1);
    if let Some(parts) = any {
        return parts.iter().any(|part| met(part, allowed));
    }
    let all = outside_brackets(expression, " AND ");
    if all.len() > 1 {
        return all.iter().all(|part| met(part, allowed));
    }
    allowed.iter().any(|licence| licence == expression)
}

/// Cuts at each `separator` that does not stand in brackets.
fn outside_brackets<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut parts = vec![];
    let (mut start, mut depth) = (0, 0_i32);
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 && at >= start && text[at..].starts_with(separator) {
            parts.push(&text[start..at]);
            start = at + separator.len();
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = ["MIT".to_owned(), "Apache-2.0".to_owned(), "Unicode-3.0".to_owned()];
    for good in
        ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR GPL-3.0) AND Unicode-3.0", "((MIT))"]
    {
        assert!(met(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "GPL-3.0 AND MIT", "(MIT OR Apache-2.0) AND GPL-3.0", ""] {
        assert!(!met(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_dependency_is_from_the_registry_and_has_an_allowed_licence() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50, "only {} packages were found", packages.len());
    let allowed = allowed();
    let mut findings = vec![];
    for package in packages {
        let name = format!("{} {}", package["name"], package["version"]);
        let licence = package["license"].as_str().unwrap_or("");
        if !met(licence, &allowed) {
            findings.push(format!("{name}: licence `{licence}`"));
        }
        let source = package["source"].as_str();
        let own = package["name"] == "lollmsd";
        if !own && !source.is_some_and(|source| source.starts_with("registry+")) {
            findings.push(format!("{name}: comes from {source:?}"));
        }
    }
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}
