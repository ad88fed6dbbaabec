//! The mappings, of which there may be many: read as JSON, some hundred at once.

use futures_util::TryStreamExt as _;
use mapping::{
    BootNumber, Expiry, ExternalPort, Instant, InternalPort, Mapping, MappingId, MappingNonce,
    Memo, Protocol, Requester, Revision, Via, Wall,
};
use sqlx::sqlite::SqliteConnection;

use crate::decisions::{self, FilterRow};
use crate::image::LoadError;
use crate::statements;

/// The columns in the order of [`statements::LOAD_MAPPINGS`]. None of the texts holds anything
/// that JSON escapes.
pub(crate) type Row<'a> = (
    i64,
    &'a str,
    &'a str,
    &'a str,
    u16,
    u16,
    &'a str,
    &'a str,
    &'a str,
    Option<u32>,
    Option<i64>,
    i64,
    &'a str,
    u8,
    Vec<FilterRow<'a>>,
    Option<&'a str>,
);

pub(crate) async fn load(connection: &mut SqliteConnection) -> Result<Vec<Mapping>, LoadError> {
    let mut chunks = sqlx::query_scalar::<_, String>(statements::LOAD_MAPPINGS).fetch(connection);
    let mut mappings = Vec::new();
    while let Some(chunk) = chunks.try_next().await.map_err(LoadError::Read)? {
        let rows: Vec<Row<'_>> = serde_json::from_str(&chunk)
            .map_err(|error| LoadError::Read(sqlx::Error::Decode(error.into())))?;
        for row in rows {
            let mapping = read(row).map_err(|column| LoadError::Row {
                table: "mappings",
                column,
            });
            mappings.push(mapping?);
        }
    }
    Ok(mappings)
}

/// Reads a row; an error names the column.
fn read(row: Row<'_>) -> Result<Mapping, &'static str> {
    let (id, host, server, protocol, internal, external, requester, nonce, description, ..) = row;
    let (.., boot, at, opened_at, via, peer, filters, memo) = row;
    let expires = match (boot, at) {
        (Some(boot), Some(at)) => Some(Expiry {
            boot: BootNumber(boot),
            at: Instant::from_nanos(whole(at).ok_or("expires_at")?),
        }),
        _ => None,
    };
    let nonce = match unhex(nonce).ok_or("nonce")? {
        none if none.is_empty() => None,
        bytes => Some(MappingNonce(bytes.try_into().map_err(|_| "nonce")?)),
    };
    let memo = memo.map(|memo| unhex(memo).map(Memo::from).ok_or("memo"));
    let description = unhex(description).and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(Mapping {
        id: MappingId(whole(id).ok_or("id")?),
        host: host.parse().map_err(|_| "host")?,
        server: server.parse().map_err(|_| "server")?,
        protocol: Protocol::from_name(protocol).ok_or("protocol")?,
        internal_port: InternalPort::new(internal).ok_or("internal_port")?,
        external_port: ExternalPort::new(external).ok_or("external_port")?,
        via: Via::from_name(via).ok_or("via")?,
        peer: peer != 0,
        filters: decisions::filters_of_rows(filters).ok_or("filters")?,
        requester: Requester::from_name(requester).ok_or("requester")?,
        nonce,
        description: description.ok_or("description")?,
        expires,
        memo: memo.transpose()?,
        opened_at: Wall::from_nanos(whole(opened_at).ok_or("opened_at")?),
        changed_in: Revision(0),
    })
}

fn whole(number: i64) -> Option<u64> {
    u64::try_from(number).ok()
}

/// Reads what SQLite's `hex` writes.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |&[high, low]: &[u8; 2]| {
        let value = digit(high)? << 4 | digit(low)?;
        u8::try_from(value).ok()
    };
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}
