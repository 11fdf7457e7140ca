//! The recipes of `docs/PROXY.md`, as they stand there.

use super::foreign::Directory;
use crate::harness::{alone, run_to_end};

const PAGE: &str = include_str!("../../../../../docs/PROXY.md");

/// What stands between fences of one kind.
fn blocks(kind: &str) -> Vec<&'static str> {
    let fence = format!("```{kind}\n");
    let blocks = PAGE.split(fence.as_str()).skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[test]
fn every_recipe_is_a_file_without_a_mistake() {
    // Goal: what an operator copies works. Method: `polyloop check` on each TOML block of the page: no error, no warning.
    let _alone = alone();
    let directory = Directory::new("recipes");
    let recipes = blocks("toml");
    assert!(recipes.len() >= 5, "{} recipes", recipes.len());
    for recipe in recipes {
        let file = directory.write("proxy.toml", recipe);
        let (code, stdout, stderr) = run_to_end(["check", file.to_str().unwrap()]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{recipe}");
        assert!(stdout.contains(": fine: "), "{stdout}");
    }
}
