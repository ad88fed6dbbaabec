//! UPnP IGD:2 and IGD:1: SSDP and SOAP.
