//! The description of the API, from its code (`/openapi.json`), and a page to read it (`/docs`),
//! which needs nothing from elsewhere.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// What the description says beside the paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Offhook",
        description = "Assistants, phone numbers, trunks and calls, in Vapi's vocabulary. Fields \
            that are not named here are kept and returned; those of Vapi's that nothing is done \
            with yet are answered with `warnings`. A key is made by `offhook api-key create`.",
    ),
    modifiers(&Key),
)]
pub(super) struct Documentation;

struct Key;

impl Modify for Key {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
    }
}
