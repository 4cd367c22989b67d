-- Under wal_consistency_checking = all: what heap, btree and sequences can do, on few rows.
create table a(i int primary key, t text, k text);
create index a_k on a(k);
create index a_t on a(t);
insert into a select g, repeat(md5(g::text), 8), 'k' || g % 5 from generate_series(1, 120) g;
copy a from stdin;
1001	one	\N
1002	two	k1
1003	three	k2
\.
insert into a select g, repeat(md5(g::text), 8), 'k' || g % 5 from generate_series(500, 560) g;
update a set t = t || 'x' where i < 40;
update a set k = 'k1' where i between 40 and 60;
update a set t = 'short' where i between 61 and 70;
vacuum freeze a;
insert into a values (2000, 'q', 'k3') on conflict do nothing;
insert into a values (2000, 'q', 'k3') on conflict do nothing;
begin; select 1 from a where i = 5 for key share; savepoint s; update a set k = 'k9' where i = 5; rollback to s; commit;
begin; select count(*) from (select * from a where i < 10 for update) x; rollback;
delete from a where i % 2 = 0;
vacuum a;
delete from a where i < 100;
vacuum a;
insert into a select g, md5(g::text), 'k' || g % 3 from generate_series(3000, 3080) g;
delete from a;
vacuum a;
create table r(i int) partition by range (i);
create table r1 partition of r for values from (0) to (100);
create table r2 partition of r for values from (100) to (200);
insert into r select generate_series(1, 20);
update r set i = i + 100 where i < 5;
create table d(k text);
create index d_k on d(k);
insert into d select repeat('y', 40) from generate_series(1, 150) g;
insert into d select repeat('x', 40) from generate_series(1, 100) g;
delete from d where ctid = any(select ctid from d limit 30);
vacuum d;
create sequence s; select nextval('s'), nextval('s');
create index concurrently a_c on a(t, k);
truncate a;
analyze r1;
select pg_switch_wal();
