# SPDX-License-Identifier: Apache-2.0

mock_provider "libvirt" {}

variables {
  name  = "plant-a"
  image = "/srv/lockgate/lockgate.raw"
  networks = {
    management = { cidr = "192.0.2.0/24", bridge = "br-mgmt", gateway = "192.0.2.1" }
    targets    = { cidr = "198.51.100.0/24" }
  }
  gateways = {
    gw-a-1 = { addresses = { management = "192.0.2.11/24", targets = "198.51.100.11/24" } }
    gw-a-2 = { addresses = { management = "192.0.2.12/24" } }
  }
  management = {
    networks        = ["203.0.113.0/24"]
    authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP ops@site"]
  }
}

run "the_inventory" {
  assert {
    condition = jsonencode(output.inventory) == jsonencode({ all = { children = { gateways = { children = { segment_plant_a = {
      hosts = { gw-a-1 = { ansible_host = "192.0.2.11" }, gw-a-2 = { ansible_host = "192.0.2.12" } }
      vars  = { gateway_segment = "plant-a" }
    } } } } } })
    error_message = "Not the inventory of the two gateways."
  }

  assert {
    condition     = jsonencode(output.inventory_groups) == jsonencode(output.inventory.all.children.gateways.children)
    error_message = "The part below gateways is another."
  }
}

run "a_network_without_a_bridge_is_made_and_isolated" {
  assert {
    condition     = keys(libvirt_network.isolated) == ["targets"] && libvirt_network.isolated["targets"].mode == "none" && length(libvirt_network.isolated["targets"].addresses) == 0 && libvirt_network.isolated["targets"].name == "plant-a-targets"
    error_message = "Not one isolated network without an address of the hypervisor."
  }

  assert {
    condition     = keys(output.gateways["gw-a-1"].interfaces) == ["management", "targets"] && keys(output.gateways["gw-a-2"].interfaces) == ["management"]
    error_message = "The gateways are not in the networks that they have addresses in."
  }
}

run "another_network_for_management" {
  variables {
    management_network = "targets"
    networks           = { targets = { cidr = "2001:db8:1::/64", host_address = true } }
    gateways           = { gw-a-1 = { addresses = { targets = "2001:db8:1::11/64" } } }
  }

  assert {
    condition     = output.inventory_groups.segment_plant_a.hosts["gw-a-1"].ansible_host == "2001:db8:1::11"
    error_message = "Not the address in the management network."
  }

  assert {
    condition     = libvirt_network.isolated["targets"].addresses == tolist(["2001:db8:1::/64"])
    error_message = "The hypervisor has no address there."
  }
}
