//! deploy/: each of its files, as far as it can be without a container engine, and the real nginx.

mod files;
mod nginx;
mod prepare;
mod support;
