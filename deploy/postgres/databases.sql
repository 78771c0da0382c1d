-- A database for each service that keeps state. Run once, when the server's volume is empty; each service makes its own
-- tables when it starts. In UTF-8, whatever locale the server was made with: a service refuses to start otherwise.
create database orders encoding 'UTF8' template template0;
create database payments encoding 'UTF8' template template0;
create database delivery encoding 'UTF8' template template0;
