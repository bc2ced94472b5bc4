-- The columns of the tables in daily_operations, from which they are copied.
CREATE TABLE analytics.guest_attendance (
    admission_date date NOT NULL,
    entrance_name text NOT NULL,
    ticket_price numeric(10, 2) NOT NULL,
    quantity_sold integer NOT NULL,
    PRIMARY KEY (admission_date, entrance_name, ticket_price)
);
COMMENT ON TABLE analytics.guest_attendance IS 'One row per day, entrance and ticket price.';
COMMENT ON COLUMN analytics.guest_attendance.ticket_price IS 'USD per ticket';

CREATE TABLE analytics.inventory (
    inventory_date date NOT NULL,
    item_name text NOT NULL,
    quantity_on_hand integer NOT NULL,
    order_more boolean NOT NULL,
    PRIMARY KEY (inventory_date, item_name)
);
COMMENT ON TABLE analytics.inventory IS 'One row per day and item: the count at the end of the day.';

CREATE TABLE analytics.item_sales (
    sales_date date NOT NULL,
    location_name text NOT NULL,
    item_name text NOT NULL,
    quantity_sold integer NOT NULL,
    unit_price numeric(10, 2) NOT NULL,
    PRIMARY KEY (sales_date, location_name, item_name, unit_price)
);
COMMENT ON TABLE analytics.item_sales IS 'One row per day, location, item and price.';
COMMENT ON COLUMN analytics.item_sales.unit_price IS 'USD per piece';

CREATE TABLE analytics.labor (
    labor_date date NOT NULL,
    employee_name text NOT NULL,
    hours_worked numeric(5, 2) NOT NULL,
    pre_tax_earnings numeric(10, 2) NOT NULL,
    post_tax_earnings numeric(10, 2) NOT NULL,
    PRIMARY KEY (labor_date, employee_name)
);
COMMENT ON TABLE analytics.labor IS 'One row per day and employee who worked; earnings in USD.';
