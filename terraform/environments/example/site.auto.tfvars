# SPDX-License-Identifier: Apache-2.0

# The site, as data: copy this folder and change this file. The addresses are those of inventories/example/hosts.yml.

libvirt_uri = "qemu+ssh://ops@hypervisor.example/system"
image       = "/srv/lockgate/lockgate.qcow2"

management = {
  networks        = ["203.0.113.0/24"]
  authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP replace-with-your-own"]
}
name_servers = ["203.0.113.2"]
time_servers = ["203.0.113.1"]

segments = {
  plant-a = {
    networks = {
      management = { cidr = "192.0.2.0/24", bridge = "br-plant-a", gateway = "192.0.2.1" }
    }
    gateways = {
      gw-a-1 = { addresses = { management = "192.0.2.11/24" } }
      gw-a-2 = { addresses = { management = "192.0.2.12/24" } }
    }
  }
  plant-b = {
    networks = {
      management = { cidr = "198.51.100.0/24", bridge = "br-plant-b", gateway = "198.51.100.1" }
    }
    gateways = {
      gw-b-1 = { addresses = { management = "198.51.100.11/24" } }
    }
  }
}
