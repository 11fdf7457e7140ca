//! The table of error numbers in the documentation is the table that the code acts by.

use polyloop_core::errno::markdown;

const BEGIN: &str = "<!-- errno:begin -->\n";
const END: &str = "<!-- errno:end -->";

#[test]
fn the_documented_table_is_the_one_in_force() {
    // Goal: docs/ERRORS.md never lies. Method: compare; `UPDATE_DOCS=1` writes it anew.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ERRORS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let from = text.find(BEGIN).unwrap() + BEGIN.len();
    let to = text.find(END).unwrap();
    let wanted = format!("{}\n", markdown().trim_end());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{}{wanted}{}", &text[..from], &text[to..])).unwrap();
        return;
    }
    assert!(
        text[from..to] == wanted,
        "docs/ERRORS.md is behind: UPDATE_DOCS=1 cargo test -p polyloop-core --test errors_doc"
    );
}
