//! Arrows between crates point down, strictly: what each crate must not know is what makes the layers worth having.
//!
//! The facts come from `cargo metadata`, not from reading manifests, so that renamed and target-specific dependencies
//! count too. Dev-dependencies may point up: the tests of a lower crate may borrow the simulator above it.
//! Deliberately absent: any opinion on crates from the registry, save that the core has none at all.

use serde_json::Value;

use super::finding::{Finding, Rule};

/// The crate with decisions only.
const CORE: &str = "polyloop-core";

/// What the instruments share.
const MEASURE: &str = "polyloop-measure";

/// The load generator: the curves read its result files.
const LOAD: &str = "polyloop-load";

/// From the bottom up. A crate that is not named here is placed by its directory, or has no place and is refused.
const LAYERS: [(&str, u8); 8] = [
    (CORE, 0),
    ("polyloop-sys", 1),
    ("polyloop", 2),
    ("polyloop-sim", 3),
    ("polyloop-proxy", 3),
    ("polyloop-server", 4),
    (MEASURE, 5),
    // A program whose result files others read.
    (LOAD, 6),
];

/// Programs that measure and check; nothing may depend on them.
const TOP_LAYER: u8 = 7;

/// The only members a program under `tools/` may know: it uses the library as anybody else would, or starts the
/// binary, and takes nothing out of the product's upper parts. The generator is read from, not reached into.
const TOOLS_MAY_NEED: [&str; 5] = [CORE, "polyloop-sys", "polyloop", MEASURE, LOAD];

/// The same for what the instruments share: it knows the system, and not what is measured.
const MEASURE_MAY_NEED: [&str; 1] = ["polyloop-sys"];

/// A member of the workspace, as far as the layers go.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Relative to the root.
    pub(crate) manifest: String,
    /// Normal and build dependencies. A name may come twice.
    pub(crate) needs: Vec<String>,
}

/// Takes the members out of what `cargo metadata --format-version 1 --no-deps` printed; `None` if it has another shape.
pub(crate) fn members(metadata: &Value) -> Option<Vec<Member>> {
    let root = metadata["workspace_root"].as_str()?;
    metadata["packages"]
        .as_array()?
        .iter()
        .map(|package| member(package, root))
        .collect()
}

fn member(package: &Value, root: &str) -> Option<Member> {
    let manifest = package["manifest_path"].as_str()?;
    let needs = package["dependencies"]
        .as_array()?
        .iter()
        .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
        .map(|dependency| dependency["name"].as_str().map(str::to_owned))
        .collect::<Option<Vec<String>>>()?;
    Some(Member {
        name: package["name"].as_str()?.to_owned(),
        manifest: manifest
            .strip_prefix(root)?
            .trim_start_matches('/')
            .to_owned(),
        needs,
    })
}

/// Finds each arrow that does not point down.
pub(crate) fn check(members: &[Member]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in members {
        let told = |what: String| Finding::new(&member.manifest, 1, Rule::Arrow, what);
        let Some(own) = layer(member) else {
            findings.push(told(format!(
                "crate `{}` has no layer; name it in tools/xtask/src/tidy/layers.rs",
                member.name
            )));
            continue;
        };
        for need in &member.needs {
            if member.name == CORE {
                findings.push(told(format!(
                    "the core depends on `{need}`; it has no dependencies"
                )));
                continue;
            }
            let Some(target) = members.iter().find(|other| other.name == *need) else {
                continue; // From the registry.
            };
            // A target without a layer is told on its own account.
            if layer(target).is_some_and(|below| below >= own) {
                findings.push(told(format!(
                    "`{}` depends on `{need}`, which is not below it",
                    member.name
                )));
            } else if !narrowed(member).is_none_or(|known| known.contains(&need.as_str())) {
                findings.push(told(format!(
                    "`{}` depends on `{need}`, which is not one of the members it may know",
                    member.name
                )));
            }
        }
    }
    findings
}

/// The members that `member` may depend on where its layer alone would allow more.
fn narrowed(member: &Member) -> Option<&'static [&'static str]> {
    if member.name == MEASURE {
        Some(&MEASURE_MAY_NEED)
    } else {
        member
            .manifest
            .starts_with("tools/")
            .then_some(&TOOLS_MAY_NEED)
    }
}

fn layer(member: &Member) -> Option<u8> {
    let named = LAYERS
        .iter()
        .find(|(name, _)| *name == member.name)
        .map(|(_, layer)| *layer);
    let is_tool = ["tools/", "benches/"]
        .iter()
        .any(|top| member.manifest.starts_with(top));
    named.or_else(|| is_tool.then_some(TOP_LAYER))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, directory: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> = dependencies
            .iter()
            .map(|(name, kind)| json!({ "name": name, "kind": kind }))
            .collect();
        let manifest = format!("/r/{directory}/Cargo.toml");
        json!({ "name": name, "manifest_path": manifest, "dependencies": dependencies })
    }

    fn judge(packages: &[Value]) -> Vec<String> {
        let metadata = json!({ "workspace_root": "/r", "packages": packages });
        check(&members(&metadata).unwrap())
            .into_iter()
            .map(|f| f.what)
            .collect()
    }

    /// Goal: the drawing of the architecture passes. Method: its arrows, and a dev-dependency that points up.
    #[test]
    fn arrows_that_point_down_pass() {
        let packages = [
            package(
                "polyloop-core",
                "crates/polyloop-core",
                &[("proptest", Some("dev"))],
            ),
            package(
                "polyloop-sys",
                "crates/polyloop-sys",
                &[("polyloop-core", None)],
            ),
            package(
                "polyloop",
                "crates/polyloop",
                &[
                    ("polyloop-sys", None),
                    ("mio", None),
                    ("polyloop-sim", Some("dev")),
                ],
            ),
            package("polyloop-sim", "crates/polyloop-sim", &[("polyloop", None)]),
            package(
                "polyloop-server",
                "crates/polyloop-server",
                &[("polyloop", None)],
            ),
            package(
                "polyloop-measure",
                "tools/measure",
                &[("polyloop-sys", None), ("serde", None)],
            ),
            package(
                "load",
                "tools/load",
                &[
                    ("polyloop-measure", None),
                    ("polyloop", None),
                    ("polyloop-sys", None),
                ],
            ),
            package(
                "polyloop-benches",
                "benches",
                &[("polyloop-measure", None), ("polyloop-server", None)],
            ),
        ];
        assert_eq!(judge(&packages), Vec::<String>::new());
    }

    /// Goal: an arrow up, sideways, or by way of a build script is refused. Method: one of each.
    #[test]
    fn other_arrows_are_refused() {
        let packages = [
            package(
                "polyloop-sys",
                "crates/polyloop-sys",
                &[("polyloop", Some("build"))],
            ),
            package("polyloop", "crates/polyloop", &[("polyloop-sim", None)]),
            package(
                "polyloop-sim",
                "crates/polyloop-sim",
                &[("polyloop-proxy", None)],
            ),
            package("polyloop-proxy", "crates/polyloop-proxy", &[]),
        ];
        assert_eq!(judge(&packages).len(), 3);
    }

    /// Goal: tools stay outsiders, and the product stays clear of them. Method: a tool that reaches for the proxy, what
    /// instruments share that reaches for the library, and a product that reaches for an instrument.
    #[test]
    fn tools_know_the_library_only() {
        let packages = [
            package("polyloop", "crates/polyloop", &[]),
            package("polyloop-proxy", "crates/polyloop-proxy", &[]),
            package(
                "polyloop-server",
                "crates/polyloop-server",
                &[("polyloop-measure", None)],
            ),
            package("polyloop-measure", "tools/measure", &[("polyloop", None)]),
            package("polyloop-load", "tools/load", &[("polyloop-proxy", None)]),
            package("curve", "tools/curve", &[("polyloop-load", None)]),
            package("polyloop-benches", "benches", &[("curve", None)]),
        ];
        assert_eq!(judge(&packages).len(), 4);
    }

    /// Goal: the core stays free of dependencies. Method: a harmless one from the registry.
    #[test]
    fn the_core_depends_on_nothing() {
        let packages = [package(
            "polyloop-core",
            "crates/polyloop-core",
            &[("libc", None)],
        )];
        assert_eq!(judge(&packages).len(), 1);
    }

    /// Goal: a new crate cannot arrive without a place. Method: one under crates/ that no layer names.
    #[test]
    fn a_crate_without_a_layer_is_refused() {
        assert_eq!(
            judge(&[package("polyloop-new", "crates/polyloop-new", &[])]).len(),
            1
        );
    }
}
