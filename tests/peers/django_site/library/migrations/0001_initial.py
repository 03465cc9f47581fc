# SPDX-License-Identifier: Apache-2.0

import django.contrib.postgres.fields
import django.contrib.postgres.fields.ranges
import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions.text
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Author',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=80, unique=True)),
                ('born', models.DateField(null=True)),
                ('profile', models.JSONField(default=dict)),
            ],
        ),
        migrations.CreateModel(
            name='Tag',
            fields=[
                ('word', models.SlugField(primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name='Book',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('title', models.CharField(db_comment='as printed', db_index=True, max_length=200)),
                ('price', models.DecimalField(decimal_places=2, max_digits=8)),
                ('pages', django.contrib.postgres.fields.ArrayField(base_field=models.IntegerField(), default=list, size=None)),
                ('lent', django.contrib.postgres.fields.ranges.DateTimeRangeField(null=True)),
                ('code', models.UUIDField(null=True, unique=True)),
                ('cover', models.BinaryField(null=True)),
                ('author', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='books', to='library.author')),
                ('tags', models.ManyToManyField(blank=True, to='library.tag')),
            ],
            options={
                'indexes': [django.contrib.postgres.indexes.GinIndex(fields=['pages'], name='by_pages'), models.Index(django.db.models.functions.text.Lower('title'), name='by_lower_title')],
                'constraints': [models.CheckConstraint(condition=models.Q(('price__gte', 0)), name='price_not_negative'), models.UniqueConstraint(fields=('author', 'title'), name='once_per_author')],
            },
        ),
    ]
