//! The studio: a small web application inside the program, at `GET /`.
//!
//! Where:  a router of its own, open without a key: the page holds nothing, and asks for a key when the APIs want one.
//! Idea:   four files, built from `studio/` at the root of the repository and committed, so that cargo alone builds all.
//!         Their names stay the same; a browser asks again each time and is answered by their `ETag`.
//! Elsewhere: what the page asks for are the public APIs, nothing else. `cargo xtask studio` holds the files to their sources.
//!
//! # Invariants
//! - The page runs its own script alone and reaches its own server alone: the policy below allows no other address, no
//!   script or style written into the page, and no text turned into elements.

use std::sync::OnceLock;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ring::digest::{SHA256, digest};

use crate::app::App;

/// What the page may do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types svelte-trusted-html";

/// A file of the page.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 4] = [
    Asset {
        path: "/",
        content_type: "text/html; charset=utf-8",
        bytes: include_bytes!("../assets/studio/index.html"),
    },
    Asset {
        path: "/studio.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../assets/studio/studio.js"),
    },
    Asset {
        path: "/studio.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../assets/studio/studio.css"),
    },
    Asset {
        path: "/studio.svg",
        content_type: "image/svg+xml",
        bytes: include_bytes!("../assets/studio/studio.svg"),
    },
];

pub(crate) fn router() -> Router<App> {
    ASSETS.iter().enumerate().fold(Router::new(), |router, (index, asset)| {
        router.route(asset.path, get(move |headers: HeaderMap| async move { respond(index, &headers) }))
    })
}

/// The file, or that the browser has it already.
fn respond(index: usize, request: &HeaderMap) -> Response {
    let (asset, tag) = (&ASSETS[index], &tags()[index]);
    let known = request.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let is_known = known.is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag));
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => asset.bytes.into_response(),
    };
    let fixed = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::ETAG, HeaderValue::from_str(tag).expect("hexadecimal digits fit a header"));
    response
}

/// Of each file: the first half of its digest, quoted.
fn tags() -> &'static [String; ASSETS.len()] {
    static TAGS: OnceLock<[String; ASSETS.len()]> = OnceLock::new();
    TAGS.get_or_init(|| {
        std::array::from_fn(|i| {
            let digest = digest(&SHA256, ASSETS[i].bytes);
            let hex: String = digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\"{hex}\"")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else() {
        let page = std::str::from_utf8(ASSETS[0].bytes).unwrap();
        for outside in ["http:", "https:", "//", "<script>", "<style", " style=", "onload="] {
            assert!(!page.contains(outside), "{outside} in {page}");
        }
        for asset in &ASSETS[1..] {
            assert!(page.contains(&asset.path[1..]), "{} is not in the page", asset.path);
        }
    }
}
