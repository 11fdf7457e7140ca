//! # polyloop-curve
//!
//! What does another core buy, and which way of spreading connections is best? One command sweeps, fits the models, and
//! writes a report that a person looks at.
//!
//! ```text
//!   args ──> subject (a TOML file: how to start a server)     sweep (axes -> settings -> order)        pure
//!                    \                                          /
//!                     run: server, pinned ── polyloop-load ── billed     one point at a time
//!                      │
//!                      v
//!                   points: one JSON line each, written when it is measured; resumed from
//!                      │
//!        fit, efficiency ── models with intervals, or why not       queue ── simulated loops, 4 to 128     pure
//!                      │
//!                      v
//!                   report: one HTML file with figures and tables        compare: two results side by side
//! ```
//!
//! The one idea: a curve is worth what its points are worth. Each point carries the commands that made it, on which
//! cores, and why to doubt it; a model is fitted to points that can carry it, and refused with a reason otherwise.
//!
//! Deliberately absent: load (that is `polyloop-load`, whose result files are read), and statistics that other
//! instruments need as well (`polyloop-measure`).

pub mod args;
pub mod compare;
pub mod efficiency;
pub mod fit;
pub mod points;
pub mod queue;
pub mod report;
pub mod run;
pub mod settings;
pub mod subject;
pub mod sweep;
