"""What several tests share: fakes of data sets, small models, servers, recorded numbers."""
