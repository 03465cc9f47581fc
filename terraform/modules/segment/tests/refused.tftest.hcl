# SPDX-License-Identifier: Apache-2.0

# What is not let in, each with its message.

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

run "a_segment_name_with_shell" {
  command = plan

  variables {
    name = "a$(id)"
  }

  expect_failures = [var.name]
}

run "a_segment_name_with_template" {
  command = plan

  variables {
    name = "a{{ b }}"
  }

  expect_failures = [var.name]
}

run "a_segment_name_with_underscore" {
  command = plan

  variables {
    name = "plant_a"
  }

  expect_failures = [var.name]
}

run "a_segment_name_with_newline" {
  command = plan

  variables {
    name = "a\nb"
  }

  expect_failures = [var.name]
}

run "no_network" {
  command = plan

  variables {
    networks = {}
  }

  expect_failures = [var.networks]
}

run "a_network_name_with_template" {
  command = plan

  variables {
    networks = { "{{ x }}" = { cidr = "192.0.2.0/24" } }
  }

  expect_failures = [var.networks]
}

run "an_address_for_a_network" {
  command = plan

  variables {
    networks = { management = { cidr = "192.0.2.5/24" } }
  }

  expect_failures = [var.networks]
}

run "a_network_that_is_none" {
  command = plan

  variables {
    networks = { management = { cidr = "192.0.2/24" } }
  }

  expect_failures = [var.networks]
}

run "a_bridge_with_shell" {
  command = plan

  variables {
    networks = { management = { cidr = "192.0.2.0/24", bridge = "br0|id" } }
  }

  expect_failures = [var.networks]
}

run "an_address_on_the_site_s_bridge" {
  command = plan

  variables {
    networks = { management = { cidr = "192.0.2.0/24", bridge = "br0", host_address = true } }
  }

  expect_failures = [var.networks]
}

run "a_gateway_outside" {
  command = plan

  variables {
    networks = { management = { cidr = "192.0.2.0/24", gateway = "198.51.100.1" } }
  }

  expect_failures = [var.networks]
}

run "two_gateways_out" {
  command = plan

  variables {
    networks = { management = { cidr = "192.0.2.0/24", gateway = "192.0.2.1" }, targets = { cidr = "198.51.100.0/24", gateway = "198.51.100.1" } }
  }

  expect_failures = [var.networks]
}

run "no_gateway" {
  command = plan

  variables {
    gateways = {}
  }

  expect_failures = [var.gateways]
}

run "three_gateways" {
  command = plan

  variables {
    gateways = { for n in [1, 2, 3] : "gw-a-${n}" => { addresses = { management = "192.0.2.1${n}/24" } } }
  }

  expect_failures = [var.gateways]
}

run "a_gateway_name_with_shell" {
  command = plan

  variables {
    gateways = { "gw`id`" = { addresses = { management = "192.0.2.11/24" } } }
  }

  expect_failures = [var.gateways]
}

run "an_address_without_prefix" {
  command = plan

  variables {
    gateways = { gw-a-1 = { addresses = { management = "192.0.2.11" } } }
  }

  expect_failures = [var.gateways]
}

run "the_same_address_twice" {
  command = plan

  variables {
    gateways = { gw-a-1 = { addresses = { management = "192.0.2.11/24" } }, gw-a-2 = { addresses = { management = "192.0.2.11/24" } } }
  }

  expect_failures = [var.gateways]
}

run "an_address_in_another_network" {
  command = plan

  variables {
    gateways = { gw-a-1 = { addresses = { management = "192.0.3.11/24" } } }
  }

  expect_failures = [terraform_data.placement]
}

run "another_prefix_than_the_network_s" {
  command = plan

  variables {
    gateways = { gw-a-1 = { addresses = { management = "192.0.2.11/25" } } }
  }

  expect_failures = [terraform_data.placement]
}

run "an_address_in_an_unknown_network" {
  command = plan

  variables {
    gateways = { gw-a-1 = { addresses = { management = "192.0.2.11/24", callers = "192.0.2.13/24" } } }
  }

  expect_failures = [terraform_data.placement]
}

run "no_address_for_management" {
  command = plan

  variables {
    gateways = { gw-a-1 = { addresses = { targets = "198.51.100.11/24" } } }
  }

  expect_failures = [terraform_data.placement]
}

run "an_inventory_file_with_shell" {
  command = plan

  variables {
    inventory_file = "$(id)"
  }

  expect_failures = [var.inventory_file]
}

run "a_management_network_with_template" {
  command = plan

  variables {
    management_network = "{{ x }}"
  }

  expect_failures = [var.management_network]
}
