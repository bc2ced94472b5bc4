CREATE TABLE orders.order_line (
    line bigint PRIMARY KEY,
    ordered_on date NOT NULL,
    shop text NOT NULL,
    product text NOT NULL,
    customer text NOT NULL,
    quantity integer NOT NULL,
    price numeric(10, 2) NOT NULL,
    is_open boolean NOT NULL
);
GRANT SELECT ON orders.order_line TO airlock_app;
