"""Make the tables that the loads of the database read and write: `BENCH_POSTGRES=DSN python world.py`."""

import os

import psycopg2

TABLES = """
drop table if exists bench_world, bench_fortunes;
create table bench_world (id int primary key, number int not null);
insert into bench_world select i, i * 7919 % 10000 from generate_series(1, 10000) i;
create table bench_fortunes (id int primary key, message text not null);
insert into bench_fortunes select i, 'fortune ' || i * 5 % 12 || ' smiles: "läßt" <grüßen>' from generate_series(1, 12) i;
analyze bench_world, bench_fortunes;
"""

if __name__ == "__main__":
    connection = psycopg2.connect(os.environ["BENCH_POSTGRES"])
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLES)
    connection.close()
