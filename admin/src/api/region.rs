//! Codes for regions that most people would choose: those of ISO 3166-1, and a few for what is larger or smaller.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::api::object::json_response;
use crate::api::operation::Operation;
use crate::api::route::Route;
use crate::role::Role;

/// Code and English name. Any other name of up to 64 letters, digits, `.`, `_` and `-` is as good.
const CODES: &[(&str, &str)] = &[
    ("eu", "European Union"),
    ("us", "United States"),
    ("us-east", "United States, east"),
    ("us-west", "United States, west"),
    ("ae", "United Arab Emirates"),
    ("apac", "Asia and Pacific"),
    ("ar", "Argentina"),
    ("at", "Austria"),
    ("au", "Australia"),
    ("be", "Belgium"),
    ("bg", "Bulgaria"),
    ("br", "Brazil"),
    ("by", "Belarus"),
    ("ca", "Canada"),
    ("ch", "Switzerland"),
    ("cl", "Chile"),
    ("cn", "China"),
    ("co", "Colombia"),
    ("cz", "Czechia"),
    ("de", "Germany"),
    ("dk", "Denmark"),
    ("ee", "Estonia"),
    ("eg", "Egypt"),
    ("emea", "Europe, Middle East and Africa"),
    ("es", "Spain"),
    ("fi", "Finland"),
    ("fr", "France"),
    ("gr", "Greece"),
    ("hk", "Hong Kong"),
    ("hu", "Hungary"),
    ("id", "Indonesia"),
    ("ie", "Ireland"),
    ("il", "Israel"),
    ("in", "India"),
    ("is", "Iceland"),
    ("it", "Italy"),
    ("jp", "Japan"),
    ("ke", "Kenya"),
    ("kr", "South Korea"),
    ("kz", "Kazakhstan"),
    ("latam", "Latin America"),
    ("lt", "Lithuania"),
    ("lu", "Luxembourg"),
    ("lv", "Latvia"),
    ("mx", "Mexico"),
    ("my", "Malaysia"),
    ("ng", "Nigeria"),
    ("nl", "Netherlands"),
    ("no", "Norway"),
    ("nz", "New Zealand"),
    ("pe", "Peru"),
    ("ph", "Philippines"),
    ("pk", "Pakistan"),
    ("pl", "Poland"),
    ("pt", "Portugal"),
    ("qa", "Qatar"),
    ("ro", "Romania"),
    ("rs", "Serbia"),
    ("ru", "Russia"),
    ("sa", "Saudi Arabia"),
    ("se", "Sweden"),
    ("sg", "Singapore"),
    ("si", "Slovenia"),
    ("sk", "Slovakia"),
    ("th", "Thailand"),
    ("tr", "Türkiye"),
    ("tw", "Taiwan"),
    ("ua", "Ukraine"),
    ("uk", "United Kingdom"),
    ("vn", "Vietnam"),
    ("za", "South Africa"),
    ("local", "This host or building"),
];

/// A code that a region may have.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RegionCode {
    /// For a region's name.
    #[schema(example = "eu")]
    code: &'static str,
    /// In English.
    #[schema(example = "European Union")]
    name: &'static str,
}

/// All codes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RegionCodes {
    /// The codes.
    data: Vec<RegionCode>,
}

pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get(
        "/admin/regions/codes",
        Role::Viewer,
        Operation::new("listRegionCodes", "regions", "Lists common codes of regions")
            .about("Suggestions: a region may have any name.")
            .gives::<RegionCodes>(
                200,
                "The codes.",
                json!({"data": [{"code": "eu", "name": "European Union"}]}),
            )
            .tagged(),
        codes,
    )]
}

async fn codes() -> Response {
    let data = CODES.iter().map(|(code, name)| RegionCode { code, name });
    json_response(StatusCode::OK, &RegionCodes { data: data.collect() })
}

#[cfg(test)]
mod tests {
    use router::RegionName;

    use super::CODES;

    #[test]
    fn every_code_is_a_name_and_comes_once() {
        let mut codes: Vec<&str> = CODES.iter().map(|(code, _)| *code).collect();
        assert!(codes.iter().all(|code| RegionName::try_from(*code).is_ok()));
        for code in ["eu", "us", "ru", "cn", "br", "in", "jp", "uk"] {
            assert!(codes.contains(&code));
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CODES.len());
    }
}
