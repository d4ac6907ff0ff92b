//! The settings of a session that the text of a value depends on, by its type.

/// One setting, and what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    ExtraFloatDigits,
    DateStyle,
    IntervalStyle,
    ByteaOutput,
    TimeZone,
    LcMonetary,
    QuoteAllIdentifiers,
    SearchPath,
}

impl Setting {
    pub const ALL: &'static [Self] = &[
        Self::ExtraFloatDigits,
        Self::DateStyle,
        Self::IntervalStyle,
        Self::ByteaOutput,
        Self::TimeZone,
        Self::LcMonetary,
        Self::QuoteAllIdentifiers,
        Self::SearchPath,
    ];

    const fn clause(self) -> &'static str {
        match self {
            Self::ExtraFloatDigits => "SET extra_float_digits = 1",
            Self::DateStyle => "SET \"DateStyle\" = 'ISO, YMD'",
            Self::IntervalStyle => "SET \"IntervalStyle\" = postgres",
            Self::ByteaOutput => "SET bytea_output = hex",
            Self::TimeZone => "SET \"TimeZone\" = 'UTC'",
            Self::LcMonetary => "SET lc_monetary = 'C'",
            Self::QuoteAllIdentifiers => "SET quote_all_identifiers = off",
            Self::SearchPath => "SET search_path = pg_catalog, pg_temp",
        }
    }

    /// For CREATE FUNCTION.
    pub fn clauses(settings: &[Self]) -> String {
        settings.iter().map(|setting| setting.clause()).collect::<Vec<_>>().join(" ")
    }

    /// What the values of a built-in type depend on, as `row_to_json` writes them, or as
    /// their text where that is what an event holds (arrays). All, for a type not named here.
    pub const fn of(type_oid: u32) -> &'static [Self] {
        match type_oid {
            // bool, "char", name, int8, int2, int4, text, oid, tid, xid, cid, json, xml, xid8
            16 | 18 | 19 | 20 | 21 | 23 | 25 | 26 | 27 | 28 | 29 | 114 | 142 | 5069
            // cidr, inet, macaddr, macaddr8, bpchar, varchar, date, time, timestamp, timetz
            | 650 | 869 | 829 | 774 | 1042 | 1043 | 1082 | 1083 | 1114 | 1266
            // bit, varbit, numeric, uuid, pg_lsn, tsvector, tsquery, jsonb, jsonpath
            | 1560 | 1562 | 1700 | 2950 | 3220 | 3614 | 3615 | 3802 | 4072
            // ranges and multiranges of int4, numeric, int8
            | 3904 | 3906 | 3926 | 4451 | 4532 | 4536
            // arrays of bool, int2, int4, int8, text, bpchar, varchar, numeric, uuid, json, jsonb, inet
            | 1000 | 1005 | 1007 | 1016 | 1009 | 1014 | 1015 | 1231 | 2951 | 199 | 3807 | 1041 => &[],
            // float4, float8, point, lseg, path, box, polygon, line, circle, float4[], float8[]
            700 | 701 | 600 | 601 | 602 | 603 | 604 | 628 | 718 | 1021 | 1022 => &[Self::ExtraFloatDigits],
            // bytea, bytea[]
            17 | 1001 => &[Self::ByteaOutput],
            // timestamptz
            1184 => &[Self::TimeZone],
            // interval, interval[]
            1186 | 1187 => &[Self::IntervalStyle],
            // date[], timestamp[], daterange, tsrange
            1182 | 1115 | 3912 | 3908 => &[Self::DateStyle],
            // timestamptz[], tstzrange
            1185 | 3910 => &[Self::DateStyle, Self::TimeZone],
            // money, money[]
            790 | 791 => &[Self::LcMonetary],
            _ => Self::ALL,
        }
    }

    /// What all these types together depend on.
    pub fn of_all(type_oids: impl IntoIterator<Item = u32>) -> Vec<Self> {
        let mut settings: Vec<Self> = type_oids.into_iter().flat_map(Self::of).copied().collect();
        settings.sort_unstable();
        settings.dedup();
        settings
    }
}
