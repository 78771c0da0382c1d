-- A database for each service that keeps state. Run once, when the server's volume is empty; each service makes its own
-- tables when it starts.
create database orders;
create database payments;
create database delivery;
