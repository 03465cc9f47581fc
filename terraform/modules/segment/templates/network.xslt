<?xml version="1.0" encoding="UTF-8"?>
<!-- SPDX-License-Identifier: Apache-2.0 -->
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:output omit-xml-declaration="yes" indent="yes"/>

  <xsl:template match="node()|@*">
    <xsl:copy><xsl:apply-templates select="node()|@*"/></xsl:copy>
  </xsl:template>

  <!-- Without names and addresses to give out, libvirt starts no dnsmasq. -->
  <xsl:template match="/network/dns"/>
  <xsl:template match="/network">
    <xsl:copy>
      <xsl:apply-templates select="node()|@*"/>
      <dns enable="no"/>
    </xsl:copy>
  </xsl:template>
</xsl:stylesheet>
