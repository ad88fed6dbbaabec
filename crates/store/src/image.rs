//! From the rows back to an [`Image`].

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use mapping::{
    Anchor, BootId, BootNumber, Counters, Epoch, Expiry, Generation, GenerationId, Host, Image,
    Instant, InternalPort, Lease, Mac, MappingId, MappingNonce, Meta, Nsp, Revision, Wall,
};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::{decisions, mappings, rows, statements};

/// Why the store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An earlier reopening failed.
    #[error("the store is closed")]
    Closed,
    /// SQLite cannot read it.
    #[error("cannot read the store")]
    Read(#[source] sqlx::Error),
    /// A row holds what was never written.
    #[error("the store is damaged: {table} holds an invalid {column}")]
    Row {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
}

pub(crate) async fn load(connection: &mut SqliteConnection) -> Result<Option<Image>, LoadError> {
    let row = sqlx::query(statements::LOAD_META)
        .fetch_optional(&mut *connection)
        .await
        .map_err(LoadError::Read)?;
    let Some(row) = row else {
        return Ok(None);
    };
    let anchors = all(connection, "anchors", statements::LOAD_ANCHORS, anchor).await?;
    let newest = anchors.last().copied();
    let columns = Columns {
        table: "meta",
        row: &row,
    };
    let meta = meta(&columns, newest.ok_or_else(|| columns.invalid("boot"))?)?;
    let policy = columns.get::<String>("policy")?;
    Ok(Some(Image {
        hosts: all(connection, "hosts", statements::LOAD_HOSTS, host).await?,
        mappings: mappings::load(connection).await?,
        generations: all(
            connection,
            "generations",
            statements::LOAD_GENERATIONS,
            generation,
        )
        .await?,
        permissions: all(
            connection,
            "permissions",
            statements::LOAD_PERMISSIONS,
            decisions::read_permission,
        )
        .await?,
        pinholes: all(
            connection,
            "pinholes",
            statements::LOAD_PINHOLES,
            decisions::read_pinhole,
        )
        .await?,
        waiting: all(
            connection,
            "waiting",
            statements::LOAD_WAITING,
            decisions::read_waiting,
        )
        .await?,
        meta,
        anchors,
        policy: rows::policy_of(&policy).ok_or_else(|| columns.invalid("policy"))?,
        key: columns.bytes("key")?,
    }))
}

async fn all<T>(
    connection: &mut SqliteConnection,
    table: &'static str,
    statement: &'static str,
    parse: fn(&Columns<'_>) -> Result<T, LoadError>,
) -> Result<Vec<T>, LoadError> {
    // row by row: rows of SQLite take many times what is made of them
    let mut rows = sqlx::query(statement).fetch(connection);
    let mut parsed = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(LoadError::Read)? {
        parsed.push(parse(&Columns { table, row: &row })?);
    }
    Ok(parsed)
}

fn meta(columns: &Columns<'_>, anchor: Anchor) -> Result<Meta, LoadError> {
    let epoch = |boot, at, value| -> Result<Epoch, LoadError> {
        Ok(Epoch {
            at: Expiry {
                boot: columns.boot(boot)?,
                at: columns.instant(at)?,
            },
            value: Duration::from_nanos(columns.number(value)?),
        })
    };
    Ok(Meta {
        revision: Revision(columns.number("revision")?),
        next_mapping: MappingId(columns.number("next_mapping")?),
        next_generation: GenerationId(columns.number("next_generation")?),
        counters: Counters {
            pcp_epoch: epoch("pcp_epoch_boot", "pcp_epoch_at", "pcp_epoch_value")?,
            natpmp_epoch: epoch("natpmp_epoch_boot", "natpmp_epoch_at", "natpmp_epoch_value")?,
            upnp_boot_id: columns.number("upnp_boot_id")?,
            system_update_id: columns.number("system_update_id")?,
            shared_ipv4: match columns.get::<Option<String>>("shared_ipv4")? {
                Some(_) => Some(columns.text("shared_ipv4")?),
                None => None,
            },
            serial: columns.number("serial")?,
        },
        anchor,
    })
}

fn anchor(columns: &Columns<'_>) -> Result<Anchor, LoadError> {
    Ok(Anchor {
        boot: columns.boot("boot")?,
        boot_id: BootId(columns.bytes("boot_id")?),
        mono: columns.instant("mono")?,
        wall: columns.wall("wall")?,
    })
}

fn host(columns: &Columns<'_>) -> Result<Host, LoadError> {
    let lease = columns.expiry("lease_boot", "lease_end")?;
    let policy = match columns.get::<Option<String>>("policy")? {
        Some(text) => {
            let until = columns.expiry("policy_boot", "policy_end")?;
            let policy = decisions::host_policy_of(&text, until);
            Some(policy.ok_or_else(|| columns.invalid("policy"))?)
        }
        None => None,
    };
    Ok(Host {
        mac: columns.text::<Mac>("mac")?,
        name: columns.text("name")?,
        name_pinned: columns.get("name_pinned")?,
        addr: columns.text::<Ipv4Addr>("addr")?,
        lease: lease.map(|expires| Lease { expires }),
        declared_name: columns.get("declared_name")?,
        policy,
        first_seen: columns.wall("first_seen")?,
        last_seen: columns.wall("last_seen")?,
        changed_in: Revision(0),
    })
}

fn generation(columns: &Columns<'_>) -> Result<Generation, LoadError> {
    let nsp = Nsp::new(columns.text::<Ipv6Addr>("nsp")?);
    Ok(Generation {
        id: GenerationId(columns.number("id")?),
        delegated: columns.text("delegated")?,
        nsp: nsp.map_err(|_| columns.invalid("nsp"))?,
        preferred: columns.get("preferred")?,
        valid_until: columns.expiry("valid_boot", "valid_until")?,
    })
}

/// A row whose columns are checked.
pub(crate) struct Columns<'a> {
    pub(crate) table: &'static str,
    pub(crate) row: &'a SqliteRow,
}

impl Columns<'_> {
    pub(crate) const fn invalid(&self, column: &'static str) -> LoadError {
        LoadError::Row {
            table: self.table,
            column,
        }
    }

    pub(crate) fn get<'r, T>(&'r self, column: &'static str) -> Result<T, LoadError>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.row.try_get(column).map_err(|_| self.invalid(column))
    }

    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, LoadError> {
        T::try_from(self.get::<i64>(column)?).map_err(|_| self.invalid(column))
    }

    pub(crate) fn wall(&self, column: &'static str) -> Result<Wall, LoadError> {
        self.number(column).map(Wall::from_nanos)
    }

    pub(crate) fn internal_port(&self, column: &'static str) -> Result<InternalPort, LoadError> {
        InternalPort::new(self.number(column)?).ok_or_else(|| self.invalid(column))
    }

    pub(crate) fn nonce(&self) -> Result<Option<MappingNonce>, LoadError> {
        let bytes = self.get::<Option<Vec<u8>>>("nonce")?;
        let nonce = bytes.map(|bytes| bytes.try_into().map(MappingNonce));
        nonce.transpose().map_err(|_| self.invalid("nonce"))
    }

    pub(crate) fn text<T: FromStr>(&self, column: &'static str) -> Result<T, LoadError> {
        self.get::<String>(column)?
            .parse()
            .map_err(|_| self.invalid(column))
    }

    fn bytes(&self, column: &'static str) -> Result<[u8; 16], LoadError> {
        self.get::<Vec<u8>>(column)?
            .try_into()
            .map_err(|_| self.invalid(column))
    }

    fn instant(&self, column: &'static str) -> Result<Instant, LoadError> {
        self.number(column).map(Instant::from_nanos)
    }

    fn boot(&self, column: &'static str) -> Result<BootNumber, LoadError> {
        self.number(column).map(BootNumber)
    }

    pub(crate) fn expiry(
        &self,
        boot: &'static str,
        at: &'static str,
    ) -> Result<Option<Expiry>, LoadError> {
        if self.get::<Option<i64>>(boot)?.is_none() {
            return Ok(None);
        }
        Ok(Some(Expiry {
            boot: self.boot(boot)?,
            at: self.instant(at)?,
        }))
    }
}
