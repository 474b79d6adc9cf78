-- When workers were last told of what they can claim, through a broker; NULL: not since it could be.
ALTER TABLE work ADD COLUMN told REAL;
ALTER TABLE deliveries ADD COLUMN told REAL;
